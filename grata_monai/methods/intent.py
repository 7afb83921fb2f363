"""InTEnt: predictions under six interpolations of statistics, weighted by balanced entropy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from grata_monai.adapt.losses import balanced_entropy, probabilities, to_logits
from grata_monai.adapt.method import Episode, Method, State
from grata_monai.adapt.network import copy_network
from grata_monai.core.types import Images, Logits, Vector
from grata_monai.methods.common import (
    batch_norm_layers,
    batch_statistics,
    refuse_without_batch_norm,
)

__all__ = ["InTEnt", "weigh"]

_Statistics = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class InTEnt(Method):
    """Integrate over statistics between the source's and the image's; no weight moves.

    The image's statistics are measured in a pass that uses nothing else; then they and the
    source's are mixed with α = 0, .2, … 1, each mixture predicts, and the probabilities are summed
    with weights that favour low entropy of foreground and background alike.

    Attributes:
        intervals: One less than the number of mixtures.
        temperature: Of the softmax over the weights' scores.

    Source:
        Dong et al., Medical Image Segmentation with InTEnt: Integrated Entropy Weighting for Single
        Image Test-Time Adaptation, 2024 (arXiv 2402.09604); authors' code
        github.com/mazurowski-lab/single-image-test-time-adaptation, `calculate_ratio` and
        `get_score(ratio=True, normalize=True)`.

    Deviations:
        The authors have one foreground channel; here `balanced_entropy` takes several. Of an image
        of several windows, the windows' statistics are averaged. A case without predicted
        background gets the mean over the foreground, where the authors' code gets NaN.
    """

    intervals: int = 5
    temperature: float = 1.0
    name: ClassVar[str] = "intent"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without BatchNorm."""
        return refuse_without_batch_norm(network)

    def start(self, network: nn.Module, episode: Episode) -> State:
        """Copy the network, whose statistics change with every mixture."""
        return State(episode=episode, network=copy_network(network), is_foreign=True)

    def predict(self, state: State, images: Images) -> Logits:
        """Predict with every mixture and average, logits (1, k, *s)."""
        network, activation = state.network, state.episode.activation
        source = _read_statistics(network)
        logits = [state.episode.predict_unmoved(images, network)]
        image = _measure(lambda: super(InTEnt, self).predict(state, images), network)
        for step in range(1, self.intervals + 1):
            _mix(network, source, image, share=step / self.intervals)
            logits.append(super().predict(state, images))
        _mix(network, source, image, share=0.0)
        entropies = torch.stack([balanced_entropy(z, activation) for z in logits])
        mean = torch.zeros_like(logits[0])
        for weight, z in zip(weigh(entropies, self.temperature), logits, strict=True):
            mean += weight * probabilities(z, activation)
        return to_logits(mean, activation)


def weigh(entropies: Vector, temperature: float = 1.0) -> Vector:
    """Turn entropies into weights: scaled so that the least scores 1 and the greatest 0, softmax.

    Args:
        entropies: One per mixture, in nats.
        temperature: Above 0.

    Returns:
        Weights of sum 1; equal ones for equal entropies.
    """
    scores = entropies.max() - entropies
    return (scores / scores.max().clamp_min(1e-12) / temperature).softmax(0)


def _read_statistics(network: nn.Module) -> _Statistics:
    found = []
    for layer in batch_norm_layers(network):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        found.append((layer.running_mean.clone(), layer.running_var.clone()))
    return found


def _measure(predict: Callable[[], Logits], network: nn.Module) -> _Statistics:
    """Average the statistics of every patch of the image, each normalised by its own."""
    for layer in batch_norm_layers(network):
        layer.reset_running_stats()
        layer.momentum = None  # torch then averages over all passes
    with batch_statistics(network, is_kept=True):
        predict()
    return _read_statistics(network)


def _mix(network: nn.Module, source: _Statistics, image: _Statistics, *, share: float) -> None:
    for layer, one, two in zip(batch_norm_layers(network), source, image, strict=True):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(torch.lerp(one[0], two[0], share))
        layer.running_var.copy_(torch.lerp(one[1], two[1], share))
