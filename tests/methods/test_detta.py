"""DeTTA: settings and refusals; the step is in `test_published_steps.py`."""

from torch import Tensor, nn

from grata_monai.methods.detta import DeTTA


class Restoring(nn.Module):
    """Scales and shifts, and answers a denoising head with that."""

    auxiliary_tasks = frozenset({"denoising"})

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(1)

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        return self.norm(images)


def test_the_published_settings():
    method = DeTTA()
    assert (method.rate, method.betas, method.steps) == (1e-6, (0.9, 0.99), 1)


def test_refusals_say_what_is_missing():
    assert "without a head for 'denoising'" in DeTTA().unsupported(nn.BatchNorm3d(1))
    network = Restoring()
    assert DeTTA().unsupported(network) == ""
    network.norm = nn.Identity()
    assert "no normalisation layer" in DeTTA().unsupported(network)
