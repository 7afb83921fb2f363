"""DIGA: a little of the image's statistics, and a classifier by distance to class prototypes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from grata_monai.adapt.losses import probabilities, to_logits
from grata_monai.adapt.method import Episode, Method, State, Step
from grata_monai.adapt.network import copy_network, first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.statistics import mix_statistics
from grata_monai.core.errors import NetworkError
from grata_monai.core.types import Images, Logits

__all__ = ["DIGA", "DIGAState", "Prototypes"]


@dataclass(frozen=True)
class Prototypes:
    """Mean feature of each class, in groups of exclusive classes.

    Softmax is one group of k classes; sigmoid is k groups of two, outside and inside.

    Attributes:
        features: (groups, classes, f).
        exists: (groups, classes), whether the class was ever seen.
    """

    features: Tensor
    exists: Tensor

    def updated(self, new: "Prototypes", share: float) -> "Prototypes":
        """Move towards new prototypes by a share; classes seen for the first time are taken."""
        weight = torch.where(self.exists, share, 1.0) * new.exists
        features = torch.lerp(self.features, new.features, weight.unsqueeze(-1))
        return Prototypes(features, self.exists | new.exists)

    def classify(self, features: Tensor, otherwise: Tensor) -> Tensor:
        """Turn distances into probabilities, softmax(−‖feature − prototype‖).

        Args:
            features: (b, f, *s).
            otherwise: Probabilities (b, groups, classes, *s) of groups with fewer than two
                prototypes, among which there is nothing to choose.

        Returns:
            Probabilities (b, groups, classes, *s).
        """
        rows = features.flatten(2).transpose(1, 2)
        distances = torch.cdist(rows, self.features.flatten(0, 1).expand(len(rows), -1, -1))
        scores = (-distances).transpose(1, 2).reshape(otherwise.shape)
        axes = (1, *self.exists.shape) + (1,) * (features.ndim - 2)
        scores = scores.masked_fill(~self.exists.view(axes), -torch.inf)
        is_choice = (self.exists.sum(1, keepdim=True) > 1).view(1, -1, 1, *axes[3:])
        return torch.where(is_choice, scores.softmax(2), otherwise)


@dataclass(kw_only=True)
class DIGAState(State):
    """What goes on from case to case.

    Attributes:
        last: The convolution that makes the logits, once it is known.
        own: Prototypes of the case at hand, or None before it was looked at.
        history: Prototypes of the cases so far, or None before the first.
    """

    last: nn.Module | None = None
    own: Prototypes | None = None
    history: Prototypes | None = None


@dataclass(frozen=True)
class DIGA(Method):
    """Mix statistics, and fuse the prediction with that of a classifier by prototypes.

    Prototypes are the mean features of confident voxels of each class, before the last convolution;
    those of the case are mixed with a running mean over the cases.

    Attributes:
        source_share: Of the source in the statistics, λ_BN; networks without BatchNorm keep theirs.
        confidence: Least probability of a voxel that counts in a prototype.
        update: Share of a new case in the running prototypes, ρ.
        history_share: Of the running prototypes in the classifier by prototypes, λ_P.
        fusion: Share of the classifier by prototypes in the prediction, λ_F.
        is_online: True: the running prototypes are never reset.

    Source:
        Wang et al., Dynamically Instance-Guided Adaptation: A Backward-Free Approach for Test-Time
        Domain Adaptive Semantic Segmentation, CVPR 2023; authors' code github.com/Waybaba/DIGA,
        `configs/model/diga.yaml`.

    Deviations:
        The authors' `multi_proto_label` updates the running prototypes with the *true* labels; we
        use the confident predictions, as the paper says. A case's prototypes come from its windows.
        Groups with fewer than two prototypes keep the network's own probabilities, where the
        authors' classifier would see nothing but the one class. Sigmoid channels are classified one
        by one, inside against outside.
    """

    source_share: float = 0.8
    confidence: float = 0.9
    update: float = 0.1
    history_share: float = 0.8
    fusion: float = 0.8
    is_online: bool = True
    name: ClassVar[str] = "diga"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without a convolution, before which the features would lie."""
        if any(isinstance(module, _ConvNd) for module in network.modules()):
            return ""
        return f"{type(network).__name__} has no convolution that turns features into logits."

    def start(self, network: nn.Module, episode: Episode) -> DIGAState:
        """Copy the network and mix the copy's statistics."""
        copied = copy_network(network)
        statistics = mix_statistics(copied, 1 - self.source_share)
        return DIGAState(
            episode=episode, network=copied, image_statistics=statistics, is_foreign=True
        )

    def adapt(self, state: DIGAState, patches: Patches) -> Iterator[Step]:
        """Update the prototypes.

        Raises:
            NetworkError: If no convolution makes the logits.
        """
        with self._classifier(state, patches.images[:1]) as classifier:
            state.own = self._collect(*classifier.run(patches.images), state.episode.activation)
        if state.history is None:
            state.history = state.own
        else:
            state.history = state.history.updated(state.own, self.update)
        yield Step(rate=self.update)

    def predict(self, state: DIGAState, images: Images) -> Logits:
        """Predict logits (1, k, *s), fused with the prototypes' once there are any."""
        if state.own is None or state.history is None:
            return super().predict(state, images)
        with self._classifier(state, images) as classifier:
            classifier.prototypes = (state.history, state.own)
            logits: Tensor = state.episode.predict(images, classifier).float()
            return logits

    @contextmanager
    def _classifier(self, state: DIGAState, images: Images) -> Iterator["_PrototypeClassifier"]:
        if state.last is None:
            state.last = _find_last_convolution(state.network, images)
        classifier = _PrototypeClassifier(state.network, state.last, self, state.episode.activation)
        try:
            yield classifier
        finally:
            classifier.handle.remove()

    def _collect(self, logits: Tensor, features: Tensor, activation: str) -> Prototypes:
        """Average the features of each class' confident voxels."""
        groups = _in_groups(probabilities(logits, activation), activation)
        best = groups.max(2, keepdim=True)
        members = torch.zeros_like(groups).scatter_(2, best.indices, 1.0)
        members = members * (best.values >= self.confidence)
        members = members.flatten(3).permute(1, 2, 0, 3).flatten(2)
        counts = members.sum(2, keepdim=True)
        rows = features.transpose(0, 1).flatten(1).T
        return Prototypes(members @ rows / counts.clamp_min(1), counts.squeeze(2) > 0)


class _PrototypeClassifier(nn.Module):
    """The network, fused with a classifier by distance to prototypes; returns logits."""

    def __init__(self, network: nn.Module, last: nn.Module, settings: DIGA, activation: str):
        super().__init__()
        self.network = network
        self.settings = settings
        self.activation = activation
        self.prototypes: tuple[Prototypes, ...] = ()
        self.features = torch.empty(0)
        self.handle = last.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.features = args[0]

    def run(self, images: Images) -> tuple[Tensor, Tensor]:
        """Predict logits (b, k, *s), and the features (b, f, *s) that the last convolution saw."""
        logits = first_tensor(self.network(images)).float()
        features, self.features = self.features.float(), torch.empty(0)
        if features.shape[2:] != logits.shape[2:]:
            mode = "bilinear" if logits.ndim == 4 else "trilinear"
            features = functional.interpolate(features, list(logits.shape[2:]), mode=mode)
        return logits, features

    def forward(self, images: Tensor) -> Tensor:
        """Predict fused logits."""
        logits, features = self.run(images)
        given = _in_groups(probabilities(logits, self.activation), self.activation)
        history, own_prototypes = (p.classify(features, given) for p in self.prototypes)
        fused = torch.lerp(own_prototypes, history, self.settings.history_share)
        fused = torch.lerp(given, fused, self.settings.fusion)
        maps = fused[:, :, 1] if self.activation == "sigmoid" else fused[:, 0]
        return to_logits(maps, self.activation)


def _in_groups(maps: Tensor, activation: str) -> Tensor:
    """Lay probabilities (b, k, *s) out as (b, groups, classes, *s); see `Prototypes`."""
    return torch.stack([1 - maps, maps], 2) if activation == "sigmoid" else maps[:, None]


def _find_last_convolution(network: nn.Module, images: Tensor) -> nn.Module:
    """Run the network once and find the convolution that ran last and has its output channels."""
    order: list[_ConvNd] = []

    def note(module: nn.Module, *_: object) -> None:
        assert isinstance(module, _ConvNd)
        order.append(module)

    handles = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, _ConvNd)
    ]
    try:
        channels = first_tensor(network(images)).shape[1]
    finally:
        for handle in handles:
            handle.remove()
    for module in reversed(order):
        if module.out_channels == channels:
            return module
    raise NetworkError(
        f"a convolution must make the logits, got a {type(network).__name__} in which none has "
        f"{channels} output channels. Leave 'diga' out for this network."
    )
