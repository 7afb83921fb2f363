"""Affine consistency: two randomly warped windows must give the same foreground."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.adapt.losses import foreground, probabilities
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.core.types import Images, Logits, Scalar
from grata_monai.methods.common import refuse_without_normalisation
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["AffineConsistency", "overlap", "predict_warped"]

_LEAST_INSIDE = 0.999  # of a voxel's interpolation weights, to count as seen


@dataclass(kw_only=True)
class AffineState(SteppingState):
    """The private copy, and what its moving parameters are in every member.

    Attributes:
        members: Values of the moving parameters; the source's alone before adaptation.
    """

    members: list[list[Tensor]]


@dataclass(frozen=True)
class AffineConsistency(Method):
    """Minimise one minus the soft Dice of foreground between two affine views, mapped back.

    Attributes:
        parameters: What moves: ``all``, as published by default, or ``norm``.
        rate: Of AdamW, whose weight decay is .01.
        steps: Per case; every case starts at the source.
        pairs: Of views in each step; the windows take turns.
        strength: Standard deviation of each entry of the affine, around the identity, in
            coordinates from -1 to 1 over the window.
        members: Adaptations from the source, whose logits are averaged.

    Source:
        Weihsbach et al., DG-TTA: Out-of-domain medical image segmentation through Domain
        Generalization and Test-Time Adaptation, 2023 to 2025 (arXiv 2312.06275); authors' code
        github.com/multimodallearning/DG-TTA, `TEMPLATE_PLAN` and `tta.py`: 12 epochs of which the
        first does not step, 16 patches each, 3 members, both branches with gradient.

    Deviations:
        4 pairs and 1 member by default, for the sake of a CPU; the authors have 16 and 3. Views are
        of the case's windows, the authors' of patches from anywhere. Only voxels seen by both views
        count, which the authors guess from the sign of summed logits. Statistics of BatchNorm stay
        those of the source. The authors' pre-training (GIN, MIND) is no part of this.
    """

    parameters: tuple[str, ...] = ("all",)
    rate: float = 1e-5
    steps: int = 11
    pairs: int = 4
    strength: float = 0.05
    members: int = 1
    name: ClassVar[str] = "affine_consistency"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without normalisation, if that is what shall move."""
        return refuse_without_normalisation(network) if self.parameters == ("norm",) else ""

    def start(self, network: nn.Module, episode: Episode) -> AffineState:
        """Copy the network and let the chosen weights move."""
        adamw = partial(torch.optim.AdamW, lr=self.rate)
        stepping = start_stepping(network, episode, self.parameters, adamw)
        return AffineState(**vars(stepping), members=[stepping.moving.snapshot()])

    def adapt(self, state: AffineState, patches: Patches) -> Iterator[Step]:
        """Adapt every member from the source.

        Raises:
            AdaptationError: If the loss or its gradient is not finite.
        """
        generator = torch.Generator().manual_seed(state.episode.recipe.seed)
        source, moments = state.moving.snapshot(), state.optimizer.state_dict()
        members = []
        for _ in range(self.members):
            state.moving.restore(source)
            state.optimizer.load_state_dict(moments)
            yield from self._adapt(patches.images, state, generator)
            members.append(state.moving.snapshot())
        state.members = members

    def predict(self, state: AffineState, images: Images) -> Logits:
        """Average the members' logits (1, k, *s)."""
        total: Tensor | float = 0.0
        for member in state.members:
            state.moving.restore(member)
            total = total + super().predict(state, images)
        return torch.as_tensor(total) / len(state.members)

    def _adapt(
        self, windows: Images, state: AffineState, generator: torch.Generator
    ) -> Iterator[Step]:
        activation = state.episode.activation

        def disagreement(pair: int) -> Scalar:
            window = windows[pair % len(windows)].unsqueeze(0)
            affines = [self._draw(window.ndim - 2, generator) for _ in range(2)]
            (one, seen), (two, also_seen) = (
                predict_warped(window, state.network, affine) for affine in affines
            )
            return 1 - overlap(one, two, seen * also_seen, activation)

        for _ in range(self.steps):
            with torch.enable_grad():
                step = state.descend_mean(disagreement(pair) for pair in range(self.pairs))
            yield step

    def _draw(self, dims: int, generator: torch.Generator) -> Tensor:
        affine = torch.eye(dims + 1)
        affine[:dims] += self.strength * torch.randn(dims, dims + 1, generator=generator)
        return affine


def predict_warped(window: Images, network: nn.Module, affine: Tensor) -> tuple[Logits, Tensor]:
    """Predict a warped window and warp the prediction back.

    Args:
        window: (1, c, *s).
        network: Predicts it.
        affine: (d + 1, d + 1), from the warped window's coordinates to the window's, both from -1
            to 1, in the order of `torch.nn.functional.affine_grid`.

    Returns:
        Logits (1, k, *s) in the window's geometry, and what the warped window saw, (1, 1, *s).
    """
    warped = _warp(window, affine, padding_mode="border")
    logits = _warp(first_tensor(network(warped)).float(), affine.inverse())
    inside = _warp(torch.ones_like(window[:, :1]), affine.inverse())
    return logits, (inside > _LEAST_INSIDE).float()


def overlap(one: Logits, two: Logits, mask: Tensor, activation: str) -> Scalar:
    """Soft Dice of two predictions' foreground: Σ 2pq / Σ ½(p + q)², averaged over the channels.

    Args:
        one: Logits (b, k, *s).
        two: Logits of the same shape.
        mask: (b, 1, *s), 1 where voxels count.
        activation: ``sigmoid``: every channel is foreground; ``softmax``: all but the first.

    Returns:
        Overlap in [0, 1]; 1 of a channel without any foreground.
    """

    def masked(logits: Tensor) -> Tensor:
        return foreground(probabilities(logits, activation), activation) * mask

    p, q = masked(one), masked(two)
    common = (2 * p * q).flatten(2).sum(2)
    total = ((p + q).square() / 2).flatten(2).sum(2)
    return torch.where(total > 0, common / total.clamp_min(1e-12), 1.0).mean()


def _warp(images: Tensor, affine: Tensor, *, padding_mode: str = "zeros") -> Tensor:
    """Sample (1, c, *s) at the affine image of each voxel, in coordinates from -1 to 1."""
    theta = affine[None, :-1].to(images)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode=padding_mode, align_corners=False)
