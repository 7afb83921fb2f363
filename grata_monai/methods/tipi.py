"""TIPI: predict the same on the image and on an adversary of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.adapt.losses import entropy
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.core.types import Images, Logits, Scalar
from grata_monai.methods.common import batch_statistics, refuse_without_normalisation
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["TIPI", "divergence"]


@dataclass(frozen=True)
class TIPI(Method):
    """Minimise KL(adversarial ‖ clean) and the clean prediction's entropy.

    The adversary is found by one step of the fast gradient sign method from a random start. Batch
    normalisation uses the batch's statistics in all passes of a step; the running ones follow the
    clean pass alone, and serve to predict.

    Attributes:
        rate_per_window: Of gradient descent, times the number of windows.
        momentum: Of gradient descent.
        epsilon: Most that an intensity changes; intensities lie in [0, 1].
        entropy_weight: Of the entropy.
        steps: Per case.
        is_online: Whether weights, momentum and running statistics go on from case to case, as
            published.

    Source:
        Nguyen et al., TIPI: Test Time Adaptation with Transformation Invariance, CVPR 2023;
        authors' code github.com/atuannguyen/TIPI, `tipi.py`, with the settings of `methods/tipi.py`
        for ImageNet-C: random start, weight 1, SGD .00025/64 per image with momentum .9, ε = 2/255.

    Deviations:
        The batch is the case's windows, the authors' 64 images. The authors' second set of running
        statistics, of adversarial images, is left out: nothing reads it. Dropout stays off; the
        authors' training mode leaves it on. With sigmoid, divergences and entropies of the
        independent channels are summed. Without a random start, which the authors leave out for
        CIFAR-10-C, the divergence is at its minimum, and the sign of its gradient is rounding
        noise.
    """

    rate_per_window: float = 0.00025 / 64
    momentum: float = 0.9
    epsilon: float = 2 / 255
    entropy_weight: float = 1.0
    steps: int = 1
    is_online: bool = True
    name: ClassVar[str] = "tipi"
    form: ClassVar[int] = 2

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without any normalisation layer."""
        return refuse_without_normalisation(network)

    def start(self, network: nn.Module, episode: Episode) -> SteppingState:
        """Copy the network and let its scales and shifts move."""
        sgd = partial(torch.optim.SGD, lr=self.rate_per_window, momentum=self.momentum)
        return start_stepping(network, episode, ("norm",), sgd)

    def adapt(self, state: SteppingState, patches: Patches) -> Iterator[Step]:
        """Step on the patches and their adversaries.

        Raises:
            AdaptationError: If the loss or its gradient is not finite; no weight has moved then.
        """
        generator = torch.Generator().manual_seed(state.episode.recipe.seed)
        images, activation = patches.images, state.episode.activation
        state.optimizer.param_groups[0]["lr"] = self.rate_per_window * len(images)
        for _ in range(self.steps):
            with torch.enable_grad():
                step = state.descend(self._loss(images, state.network, activation, generator))
            yield step

    def _loss(
        self, windows: Images, network: nn.Module, activation: str, generator: torch.Generator
    ) -> Scalar:
        with batch_statistics(network, is_kept=True):
            clean = first_tensor(network(windows))
        target = clean.detach()
        noise = torch.rand(windows.shape, generator=generator).to(windows)
        offset = (self.epsilon * (2 * noise - 1)).requires_grad_()
        with batch_statistics(network, is_kept=False):
            start = divergence(first_tensor(network(windows + offset)), target, activation)
            (gradient,) = torch.autograd.grad(start, offset)
            offset = (offset + self.epsilon * gradient.sign()).clamp(-self.epsilon, self.epsilon)
            adversarial = first_tensor(network(windows + offset.detach()))
        loss = divergence(adversarial, target, activation)
        return loss + self.entropy_weight * entropy(clean, activation)


def divergence(logits: Logits, other: Logits, activation: str) -> Scalar:
    """KL(p ‖ q) of two predictions, averaged over cases and voxels.

    Args:
        logits: (b, k, *s), of p.
        other: Of q.
        activation: ``softmax``, or ``sigmoid``: summed over independent channels.

    Returns:
        Divergence in nats, at least 0.
    """
    one, two = logits.float(), other.float()
    if activation == "sigmoid":
        return (_bernoulli(one, two) + _bernoulli(-one, -two)).sum(1).mean()
    log_p, log_q = one.log_softmax(1), two.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def _bernoulli(one: Tensor, two: Tensor) -> Tensor:
    """p·log(p / q) of one outcome, from logits."""
    return one.sigmoid() * (functional.logsigmoid(one) - functional.logsigmoid(two))
