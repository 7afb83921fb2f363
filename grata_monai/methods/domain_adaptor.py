"""DomainAdaptor: adaptively mixed statistics, folded into scale and shift; tempered entropy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from grata_monai.adapt.method import Episode, Method, State, Step
from grata_monai.adapt.network import copy_network, first_tensor
from grata_monai.adapt.parameters import MovingParameters, resolve_parameters
from grata_monai.adapt.patches import Patches
from grata_monai.core.types import Images, Logits, Scalar
from grata_monai.methods.common import batch_norm_layers, descend, refuse_without_normalisation

__all__ = ["DomainAdaptor", "DomainAdaptorState", "tempered_entropy"]


class _AdaMixBN:
    """Forward of a batch-normalisation layer, which normalises with the batch's statistics.

    The first call chooses how much the source's statistics count, and rewrites scale and shift so
    that the batch's statistics give what the mixture would have given.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        self.is_folded = False
        self.mean = self.variance = torch.empty(0)
        if not layer.affine:
            layer.weight = nn.Parameter(torch.ones_like(layer.running_mean))  # type: ignore[arg-type]
            layer.bias = nn.Parameter(torch.zeros_like(layer.running_mean))  # type: ignore[arg-type]
        setattr(layer, "forward", self)  # noqa: B010

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise (b, c, *s) with statistics over the batch and space."""
        values = images.float().transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(values, 1)
        if not self.is_folded:
            self._fold(images.detach().float().flatten(2), mean.detach(), variance.detach())
        self.mean, self.variance = mean.detach(), variance.detach()
        scale = torch.rsqrt(variance + self.layer.eps) * self.layer.weight
        axes = (1, -1) + (1,) * (images.ndim - 2)
        shift = self.layer.bias - mean * scale
        return (images.float() * scale.view(axes) + shift.view(axes)).to(images.dtype)

    @torch.no_grad()
    def _fold(self, images: Tensor, mean: Tensor, variance: Tensor) -> None:
        assert self.layer.running_mean is not None
        assert self.layer.running_var is not None
        source_mean, source_variance = (
            self.layer.running_mean.float(),
            self.layer.running_var.float(),
        )
        share = _source_share(images, (mean, variance), (source_mean, source_variance))
        mixed = torch.lerp(variance, source_variance, share)
        eps = self.layer.eps
        self.layer.weight.mul_(torch.sqrt((variance + eps) / (mixed + eps)))
        offset = share * (mean - source_mean) * torch.rsqrt(variance + eps)
        self.layer.bias.add_(offset * self.layer.weight)
        self.is_folded = True

    @torch.no_grad()
    def freeze(self) -> None:
        """Give the layer the statistics of the last call, and its own forward back."""
        assert self.layer.running_mean is not None
        assert self.layer.running_var is not None
        self.layer.running_mean.copy_(self.mean)
        self.layer.running_var.copy_(self.variance)
        delattr(self.layer, "forward")


def _source_share(
    images: Tensor, batch: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor]
) -> Tensor:
    """Choose λ in [0, 1] by how far images (b, c, n), their batch and the source lie apart.

    Distances are squared, of mean and standard deviation, averaged over the channels.
    """

    def distance(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> Tensor:
        return ((one[0] - two[0]).square() + (one[1] - two[1]).square()).mean(-1)

    of_image = (images.mean(2), images.std(2))
    of_batch, of_source = (batch[0], batch[1].sqrt()), (source[0], source[1].sqrt())
    apart = distance(of_batch, of_source)
    total = apart + distance(of_image, of_source) + distance(of_image, of_batch)
    return (1 - apart / total.clamp_min(1e-12)).clamp(0, 1).mean()


@dataclass(kw_only=True)
class DomainAdaptorState(State):
    """What adaptation changes.

    Attributes:
        moving: Scales and shifts of the private copy.
        source: The source network, which predicts until there is something to predict with.
        mixtures: The forwards of the copy's batch-normalisation layers, until they are frozen.
    """

    moving: MovingParameters
    source: nn.Module
    mixtures: list[_AdaMixBN]


@dataclass(frozen=True)
class DomainAdaptor(Method):
    """Mix source and batch statistics by their distances, then step down a tempered entropy.

    A single window lies as far from the source as its batch does: then λ = ½. Without BatchNorm
    only the step remains.

    Attributes:
        rate: Of gradient descent without momentum.
        steps: Per case; every case starts at the source.

    Source:
        Zhang et al., DomainAdaptor: A Novel Approach to Test-time Adaptation, ICCV 2023; authors'
        code github.com/koncle/DomainAdaptor, `AdaMixBN` with `--Transform`, loss ``gem-t``,
        `--lr` as in `main.py`.

    Deviations:
        The batch is the case's windows, the authors' 64 images. They predict the batch itself with
        its statistics after the step; so do we, then keep these statistics for the whole case. With
        several windows λ is the mean of their shares; the authors' broadcast of (n, 1) with (n,)
        multiplies each image's share with those of all images, ours does not. With sigmoid each
        channel is a class against a second logit of 0.
    """

    rate: float = 1e-3
    steps: int = 1
    name: ClassVar[str] = "domain_adaptor"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without any normalisation layer."""
        return refuse_without_normalisation(network)

    def start(self, network: nn.Module, episode: Episode) -> DomainAdaptorState:
        """Copy the network, mix the copy's statistics, let its scales and shifts move."""
        copied = copy_network(network)
        mixtures = [_AdaMixBN(layer) for layer in batch_norm_layers(copied)]
        return DomainAdaptorState(
            episode=episode,
            network=copied,
            moving=resolve_parameters(copied, ("norm",)),
            source=network,
            mixtures=mixtures,
        )

    def adapt(self, state: DomainAdaptorState, patches: Patches) -> Iterator[Step]:
        """Step on the patches, then keep their statistics.

        Raises:
            AdaptationError: If the loss or its gradient is not finite.
        """
        parameters = state.moving.tensors
        optimizer = torch.optim.SGD(parameters, lr=self.rate)
        for _ in range(self.steps):
            with torch.enable_grad():
                logits = first_tensor(state.network(patches.images))
                loss = tempered_entropy(logits, state.episode.activation)
                descend(loss, parameters, optimizer)
            yield Step(loss=float(loss.detach()), rate=self.rate)
        if state.mixtures:
            state.network(patches.images)
            for mixture in state.mixtures:
                mixture.freeze()
            state.mixtures = []

    def predict(self, state: DomainAdaptorState, images: Images) -> Logits:
        """Predict logits (1, k, *s): with the source network until the statistics are chosen."""
        if state.mixtures:
            return state.episode.predict_unmoved(images, state.source)
        return super().predict(state, images)


def tempered_entropy(logits: Logits, activation: str) -> Scalar:
    """Entropy of softmax(z / T) times T², with T twice the standard deviation of a voxel's logits.

    Dividing by T keeps a gradient where the prediction is confident. Of two classes, z / T is the
    same wherever the prediction is, so that the gradient grows with confidence alone.

    Args:
        logits: (b, k, *s).
        activation: ``softmax``, or ``sigmoid``: k classes, each against a logit of 0.

    Returns:
        Mean over cases, voxels and, for sigmoid, channels; T is a constant for gradients.
    """
    logits = logits.float()
    if activation == "sigmoid":
        logits = torch.stack([logits, torch.zeros_like(logits)], 1)
    temperature = (2 * logits.detach().std(1, keepdim=True)).clamp_min(1e-6)
    log_p = (logits / temperature).log_softmax(1)
    return (-(log_p.exp() * log_p).sum(1, keepdim=True) * temperature.square()).mean()
