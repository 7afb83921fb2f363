"""DUA: running statistics that follow the target, case by case, with a fading momentum."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.adapt.method import Episode, Method, State, Step
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.views import Flip, Identity, WeakView, admissible_views
from grata_monai.core.types import Images, Windows
from grata_monai.methods.common import (
    batch_norm_layers,
    batch_statistics,
    refuse_without_batch_norm,
)

__all__ = ["DUA", "DUAState"]

_TURNS = ("identity", "turn90:0,1", "turn180:0,1", "turn270:0,1")
_SHIFT = 8  # the authors shift images of 32 pixels by up to 4


@dataclass(kw_only=True)
class DUAState(State):
    """What goes on from case to case; the running statistics are in the private copy.

    Attributes:
        momentum: Of the last update, without the floor.
    """

    momentum: float


@dataclass(frozen=True)
class DUA(Method):
    """Update the running statistics with a batch of augmented copies of each case.

    The n-th case has the share ω^n·.1 + ζ in the statistics, which then serve to predict it.

    Attributes:
        momentum: Before the first case.
        decay: ω, in (0, 1).
        floor: ζ, which no share falls below.
        copies: Size of the batch.
        is_online: True: the statistics are never reset.

    Source:
        Mirza et al., The Norm Must Go On: Dynamic Unsupervised Domain Adaptation by Normalization,
        CVPR 2022; authors' code github.com/jmiemirza/DUA, `dua.py`.

    Deviations:
        8 copies, the authors' 64: a 3D window has the voxels of hundreds of their 32×32 images.
        Copies are made of the case's windows: mirrored along the first axis in half of the draws,
        turned by a random quarter turn where extents and spacing allow (else by a half turn), and
        shifted by up to an eighth of the extent with zeros from outside. The authors report the
        best of all cases' states by its test error; we predict each case with the state it left.
    """

    momentum: float = 0.1
    decay: float = 0.94
    floor: float = 0.005
    copies: int = 8
    is_online: bool = True
    name: ClassVar[str] = "dua"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without BatchNorm."""
        return refuse_without_batch_norm(network)

    def start(self, network: nn.Module, episode: Episode) -> DUAState:
        """Copy the network with the source's statistics."""
        return DUAState(episode=episode, network=copy_network(network), momentum=self.momentum)

    def adapt(self, state: DUAState, patches: Patches) -> Iterator[Step]:
        """Update the statistics."""
        copies = self._augment(patches.images, state.episode)
        momentum = state.momentum * self.decay
        for layer in batch_norm_layers(state.network):
            layer.momentum = momentum + self.floor
        with batch_statistics(state.network, is_kept=True):
            state.network(copies)
        state.momentum = momentum
        yield Step(rate=momentum + self.floor)

    def _augment(self, windows: Windows, episode: Episode) -> Images:
        generator = torch.Generator().manual_seed(episode.recipe.seed)
        spacing = episode.spacing_of(windows)
        shape, mirroring = windows.shape[2:], episode.mirroring
        turns, _ = admissible_views(
            _TURNS, spatial_shape=shape, spacing=spacing, mirroring=mirroring
        )
        is_mirrored = not mirroring.reason_against([0])
        return torch.cat(
            [
                _augment_once(windows[[index % len(windows)]], turns, generator, is_mirrored)
                for index in range(self.copies)
            ]
        )


def _augment_once(
    window: Tensor, turns: list[WeakView], generator: torch.Generator, is_mirrored: bool
) -> Tensor:
    """Shift, mirror (if the network takes that) and turn one window (1, c, *s)."""

    def draw(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    shape = window.shape[2:]
    reach = [extent // _SHIFT for extent in shape]
    padded = functional.pad(window, [side for r in reversed(reach) for side in (r, r)])
    for axis, (extent, r) in enumerate(zip(shape, reach, strict=True), start=2):
        padded = padded.narrow(axis, draw(2 * r + 1), extent)
    mirror = Flip((0,)) if draw(2) and is_mirrored else Identity()
    return turns[draw(len(turns))].apply(mirror.apply(padded))
