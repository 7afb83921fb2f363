"""Shape moments: lower the entropy while size and place of the organ stay as in the source."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from grata_monai.adapt.losses import foreground, probabilities
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.core.errors import RecipeError
from grata_monai.core.types import Logits, Scalar
from grata_monai.methods.common import refuse_without_normalisation
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["ShapeMoments", "ShapePrior", "shape_prior"]

_EPSILON = 1e-10


@dataclass(frozen=True)
class ShapePrior:
    """What is known of the organs' shape from the source.

    Attributes:
        sizes: Mean volume of each foreground channel, in voxels of the network's grid.
        centroids: Mean centre of each, per axis from -1 (first voxel) to 1 (last) of the image.
    """

    sizes: tuple[float, ...]
    centroids: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Check that both speak of the same channels."""
        if len(self.sizes) != len(self.centroids) or not all(size > 0 for size in self.sizes):
            raise RecipeError(
                f"sizes must be above 0 and as many as centroids, got {self.sizes} and "
                f"{len(self.centroids)} centroids. Use shape_prior on the source's label maps."
            )


def shape_prior(label_maps: Iterable[Tensor], *, classes: int = 1) -> ShapePrior:
    """Measure sizes and centroids on label maps of the source, on the network's grid.

    Args:
        label_maps: (1, 1, *s) each, of any extents, 0 for background; slices for a 2D network.
        classes: Foreground classes, labelled from 1; as many as foreground channels.

    Returns:
        Means over the label maps in which a class occurs.

    Raises:
        RecipeError: If a class occurs in none of them.
    """
    sizes: list[list[float]] = [[] for _ in range(classes)]
    centroids: list[list[Tensor]] = [[] for _ in range(classes)]
    for label_map in label_maps:
        for index in range(classes):
            voxels = (label_map[0, 0] == index + 1).nonzero().double()
            if len(voxels):
                last = torch.tensor([max(n - 1, 1) for n in label_map.shape[2:]])
                sizes[index].append(float(len(voxels)))
                centroids[index].append(2 * voxels.mean(0) / last.to(voxels) - 1)
    missing = [index + 1 for index in range(classes) if not sizes[index]]
    if missing:
        raise RecipeError(
            f"label_maps must show every class, got none with label {missing[0]}. "
            "Give more of the source's label maps, or fewer classes."
        )
    return ShapePrior(
        sizes=tuple(sum(found) / len(found) for found in sizes),
        centroids=tuple(tuple(torch.stack(found).mean(0).tolist()) for found in centroids),
    )


@dataclass(frozen=True)
class ShapeMoments(Method):
    """Minimise class-weighted entropy + KL of class ratios + squared distance of centroids.

    Attributes:
        prior: Of the source; without it the method is refused.
        rate: Of Adam.
        weight_decay: Of Adam.
        steps: Per case; every case starts at the source.
        parameters: What moves: ``norm``, as in the authors' code, or ``all``.
        background_weight: Of background in the entropy; foreground gets the rest of 1.
        ratio_weight: Of the divergence between predicted and prior class ratios.
        centroid_weight: Of squared distances, in voxels².
        least_size: Voxels that must be predicted before a centroid counts.

    Source:
        Bateson et al., Test-Time Adaptation with Shape Moments for Image Segmentation, MICCAI 2022;
        authors' code github.com/mathilde-b/TTA, `prostate_tta.make`, `EntKLPropWMoment`: weights
        .1 and .9, 1, 1e-4, Adam 5e-4 with weight decay 1e-4, 150 epochs per subject.

    Deviations:
        On the window with most foreground, which shall hold the whole organ; the authors on all
        slices of a subject, with the size predicted per slice. They run 150 epochs without, then
        150 with the centroid, estimated anew from the predictions; here it counts from the
        beginning and comes from the source. No decay of the rate. Ratios are of probabilities, as
        in the paper, not of probabilities over their maximum. With sigmoid, channels are summed,
        each with its own background. BatchNorm uses the image's statistics, as theirs does.
    """

    prior: ShapePrior | None = None
    rate: float = 5e-4
    weight_decay: float = 1e-4
    steps: int = 150
    parameters: tuple[str, ...] = ("norm",)
    background_weight: float = 0.1
    ratio_weight: float = 1.0
    centroid_weight: float = 1e-4
    least_size: int = 10
    name: ClassVar[str] = "shape_moments"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse to work without a prior, or without normalisation if that is what shall move."""
        if self.prior is None:
            return (
                "sizes and centroids of the source are not known. Measure them on its label maps "
                "with grata_monai.methods.shape_moments.shape_prior."
            )
        return refuse_without_normalisation(network) if self.parameters == ("norm",) else ""

    def start(self, network: nn.Module, episode: Episode) -> SteppingState:
        """Copy the network, drop the copy's source statistics, let the chosen weights move."""
        adam = partial(torch.optim.Adam, lr=self.rate, weight_decay=self.weight_decay)
        return start_stepping(network, episode, self.parameters, adam, image_share=1.0)

    def adapt(self, state: SteppingState, patches: Patches) -> Iterator[Step]:
        """Step on the first patch.

        Raises:
            AdaptationError: If the loss or its gradient is not finite.
            RecipeError: If there is no prior, or it has other channels or axes than the case.
        """
        image, extent = patches.images[:1], patches.extents[0]
        for _ in range(self.steps):
            with torch.enable_grad():
                logits = first_tensor(state.network(image))
                step = state.descend(self.loss(logits, extent, state.episode.activation))
            yield step

    def loss(self, logits: Logits, extent: Tensor, activation: str) -> Scalar:
        """Compute what is minimised.

        Args:
            logits: (1, k, *s) of a window.
            extent: (d, 2), where the window lies in the image, from -1 to 1.
            activation: ``sigmoid`` or ``softmax``.

        Returns:
            Loss; no unit.

        Raises:
            RecipeError: If there is no prior, or it has other channels or axes than the logits.
        """
        p = probabilities(logits, activation)
        inside = foreground(p, activation)[0].flatten(1)
        prior = self._fitting_prior(len(inside), logits.ndim - 2)
        expected = (torch.tensor(prior.sizes).to(inside) / inside.shape[1]).clamp(1e-6, 1 - 1e-6)
        ratio = inside.mean(1)
        weight = self.background_weight
        if activation == "sigmoid":
            certainty = (1 - weight) * _entropy(inside) + weight * _entropy(1 - inside)
            divergence = _divergence(ratio, expected) + _divergence(1 - ratio, 1 - expected)
        else:
            background, outside = p[0, 0].flatten(), (1 - expected.sum()).clamp_min(1e-6)
            certainty = (1 - weight) * _entropy(inside) + weight * _entropy(background)
            divergence = _divergence(ratio, expected) + _divergence(background.mean(), outside)
        distance = self._distance(foreground(p, activation), prior, extent)
        return certainty + self.ratio_weight * divergence + self.centroid_weight * distance

    def _fitting_prior(self, channels: int, dims: int) -> ShapePrior:
        prior = self.prior
        if prior is None or len(prior.sizes) != channels or len(prior.centroids[0]) != dims:
            raise RecipeError(
                f"prior must describe {channels} foreground channels along {dims} axes, got "
                f"{prior}. Measure it with shape_prior on the source's label maps."
            )
        return prior

    def _distance(self, inside: Tensor, prior: ShapePrior, extent: Tensor) -> Tensor:
        """Sum squared distances in voxels between centroids (1, k, *s) and the prior's."""
        total = inside.new_zeros(())
        sizes = inside.flatten(2).sum(2)[0]
        is_found = (inside > 0.5).flatten(2).sum(2)[0] > self.least_size
        for axis, (first, last) in enumerate(extent.tolist()):
            count = inside.shape[axis + 2]
            where = torch.linspace(first, last, count).to(inside)
            along = inside.sum([i for i in range(2, inside.ndim) if i != axis + 2])[0]
            centroid = along @ where / sizes.clamp_min(_EPSILON)
            apart = centroid - torch.tensor([c[axis] for c in prior.centroids]).to(inside)
            voxels = (count - 1) / max(last - first, _EPSILON)
            total = total + ((apart * voxels).square() * is_found).sum()
        return total


def _entropy(p: Tensor) -> Tensor:
    """Mean of -p·log p over voxels, summed over channels."""
    return -(p * (p + _EPSILON).log()).mean(-1).sum()


def _divergence(ratio: Tensor, expected: Tensor) -> Tensor:
    """Sum of r·log(r / e)."""
    return (ratio * ((ratio + _EPSILON).log() - expected.log())).sum()
