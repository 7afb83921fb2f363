"""DeTTA: one step down the error of a denoising head, on the normalisation's scale and shift."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from grata_monai.adapt.heads import denoising, require_head
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.patches import Patches
from grata_monai.methods.common import batch_statistics, refuse_without_normalisation
from grata_monai.methods.head import refuse_without_head
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["DeTTA"]


@dataclass(frozen=True)
class DeTTA(Method):
    """Restore the noisy image with a head that was trained together with the network.

    In a step batch normalisation uses the statistics of the noisy batch; the running ones follow
    them, and serve to predict.

    Attributes:
        rate: Of Adam.
        betas: Of Adam.
        steps: Per case, each with new noise; every case starts at the source.

    Source:
        Wen et al., From Denoising Training to Test-Time Adaptation: Enhancing Domain Generalization
        for Medical Image Segmentation, WACV 2024; authors' code github.com/WenRuxue/DeTTA,
        `predict_DeYNet.py`: Adam 1e-6 with β = (.9, .99), `--step 1`.

    Deviations:
        The head is the one of `grata_monai.adapt.heads`, which removes Gaussian noise from the
        whole image under a squared error; the authors replace a tenth of the pixels by neighbours
        and take the absolute error there (Noise2Void). One step on all windows of the case, the
        authors' one for every eight slices. Dropout stays off; the authors' training mode leaves it
        on. The image is predicted as it is; the authors' with replaced pixels.
    """

    rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.99)
    steps: int = 1
    name: ClassVar[str] = "detta"
    form: ClassVar[int] = 2

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without a denoising head or without normalisation."""
        return refuse_without_head(network, "denoising") or refuse_without_normalisation(network)

    def start(self, network: nn.Module, episode: Episode) -> SteppingState:
        """Copy the network and let its scales and shifts move."""
        adam = partial(torch.optim.Adam, lr=self.rate, betas=self.betas)
        return start_stepping(network, episode, ("norm",), adam)

    def adapt(self, state: SteppingState, patches: Patches) -> Iterator[Step]:
        """Step on noisy patches.

        Raises:
            AdaptationError: If the loss or its gradient is not finite; no weight has moved then.
            NetworkError: If the network has no denoising head.
        """
        generator = torch.Generator().manual_seed(state.episode.recipe.seed)
        network = _InTraining(state.network)
        for _ in range(self.steps):
            with torch.enable_grad():
                loss = denoising(network, patches.images, generator=generator)
                step = state.descend(loss)
            yield step


class _InTraining(nn.Module):
    """The network as it trained: one batch goes through segmentation and head alike."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.auxiliary_tasks = frozenset({"denoising"})

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        """Answer the task; running statistics follow the batch, of shared layers once."""
        head = require_head(self.network, task)
        with torch.no_grad(), batch_statistics(self.network, is_kept=True):
            self.network(images)
        with batch_statistics(self.network, is_kept=False):
            return head.auxiliary(images, task)
