"""The source profile: what source cases look like to a network, and how foreign a case is.

`grata_monai.experiments.calibrate` makes it; it holds statistics of many cases and no image. While
the source network makes its pass, hooks read the mean and the variance of every channel in front of
every normalisation layer: no further pass is needed. A case is as foreign as these statistics lie
far from those of the source cases.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from grata_monai.adapt.organ import OrganProfile
from grata_monai.adapt.parameters import normalisation_layers
from grata_monai.adapt.quality import QualityModel
from grata_monai.adapt.shape import ShapeModel
from grata_monai.core.errors import ProfileError

__all__ = [
    "LayerProfile",
    "LayerStatistics",
    "Shift",
    "SourceProfile",
    "describe_image",
    "probe",
    "profile_layers",
]

LayerStatistics = Mapping[str, NDArray[np.float64]]
"""Layer to (2c,): channel means, then log variances, averaged over the windows of a pass."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SMALLEST_VARIANCE = 1e-8
_PRIOR_CASES = 5  # so many cases weigh as much as the layer's median spread


@dataclass(frozen=True)
class LayerProfile:
    """What one layer sees of source cases.

    Attributes:
        mean: (2c,): channel means, then log variances, averaged over the cases.
        spread: (2c,): their standard deviations, shrunk towards the layer's median.
        distances: Of every source case from the others, ascending; see `SourceProfile.shift`.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    distances: tuple[float, ...]

    def distance(self, values: NDArray[np.float64]) -> float:
        """Root mean square over channels of the standardised values."""
        standardised = (values - np.asarray(self.mean)) / np.asarray(self.spread)
        return float(np.sqrt(np.square(standardised).mean()))


@dataclass(frozen=True)
class Shift:
    """How foreign a case is.

    Attributes:
        percentile: Share of source cases that lie nearer to the others than this case, in [0, 100].
        distance: Median over layers of their distances: a few odd layers do not count.
        layers: Layer to percentile.
    """

    percentile: float
    distance: float
    layers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceProfile:
    """What the source cases of one network look like.

    Attributes:
        weights: SHA-256 of the network's weights, as `hash_weights` names them.
        cases: Number of source cases.
        layers: In the order of the network's modules.
        distances: Of every source case from the others, ascending.
        image: ``intensities`` (quantiles) and ``field of view`` (logarithms of mm) of the images.
        organ: Of the source labels; None if the profile was made without labels.
        shape: Of the source labels' outlines; None without labels, or in an older profile.
        home_below: A case that lies nearer is like those at home and keeps the source prediction;
            None adapts every case.
        models: Prediction (``plain``, the source's, ``kept`` or ``mirrored``) to what predicts its
            Dice; empty without labels.
        home_quality: Predicted Dice of the source's mask below which a case is not like those at
            home, however near it lies.
        home_lower: What the Dice of a case like those at home reaches, as often as the models
            promise.
        gain_above: By how much a prediction must be better than the source's, by these models, to
            be kept.
        mirrored_from: Dice with the source's mask from which the average of mirrored predictions of
            the whole image is kept, where no other is; None never keeps it.
        useful_above: Dice from which a mask counts as useful.
    """

    weights: str
    cases: int
    layers: Mapping[str, LayerProfile]
    distances: tuple[float, ...]
    image: Mapping[str, LayerProfile] = field(default_factory=dict)
    organ: OrganProfile | None = None
    shape: ShapeModel | None = None
    home_below: float | None = None
    models: Mapping[str, QualityModel] = field(default_factory=dict)
    home_quality: float = 0.0
    home_lower: float = 0.0
    gain_above: float = 0.0
    mirrored_from: float | None = None
    useful_above: float = 0.7

    @property
    def is_fitted(self) -> bool:
        """Whether it predicts quality, which takes labelled cases."""
        return "plain" in self.models

    def shift(self, statistics: LayerStatistics) -> Shift:
        """Say how foreign a case is.

        Args:
            statistics: Of its source pass, as `probe` read them.

        Raises:
            ProfileError: If the layers are not those of the profile.
        """
        if {n: len(v) for n, v in statistics.items()} != {
            n: len(layer.mean) for n, layer in self.layers.items()
        }:
            raise ProfileError(
                "profile must describe the layers of the network, it does not. "
                "Make it anew with: python -m grata_monai calibrate"
            )
        found = {name: layer.distance(statistics[name]) for name, layer in self.layers.items()}
        distance = _combine(found.values())
        return Shift(
            percentile=_percentile(distance, self.distances),
            distance=distance,
            layers={n: _percentile(d, self.layers[n].distances) for n, d in found.items()},
        )

    @classmethod
    def read(cls, path: str | Path) -> "SourceProfile":
        """Read a profile's file.

        Raises:
            ProfileError: If it cannot be read, or is no profile.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ProfileError(
                f"profile must be a readable file, {Path(path).name!r} is not. "
                "Check the path, or make it with: python -m grata_monai calibrate"
            ) from error
        return cls.from_json(text)

    def to_json(self) -> str:
        """Write as JSON text."""
        content = asdict(self)
        return json.dumps(content, separators=(",", ":"), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "SourceProfile":
        """Read what `to_json` wrote.

        Raises:
            ProfileError: If the text is no profile.
        """
        try:
            profile: SourceProfile = _adapter().validate_json(text)
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            raise ProfileError(
                "profile must be as `python -m grata_monai calibrate` writes it, "
                f"{'.'.join(map(str, found['loc'])) or 'its text'} is not: {found['msg']}. "
                "Make it anew."
            ) from error
        return profile


def describe_image(
    images: Tensor, spacing: Sequence[float] | None
) -> dict[str, NDArray[np.float64]]:
    """Measure what a profile tells of images besides the layers' statistics.

    Args:
        images: (1, c, *s), as the network sees them.
        spacing: In mm per axis; None counts voxels.

    Returns:
        ``intensities``: eleven quantiles of every channel; ``field of view``: logarithms of mm.
    """
    channels = images[0].flatten(1).double().cpu().numpy()
    sides = np.array(images.shape[2:]) * np.array(spacing or 1.0)
    return {
        "intensities": np.quantile(channels, np.linspace(0, 1, 11), axis=1).ravel(),
        "field of view": np.log(sides),
    }


def profile_layers(cases: Sequence[LayerStatistics]) -> tuple[dict[str, LayerProfile], list[float]]:
    """Describe the layers' statistics over source cases, and the distance of each from the others.

    Args:
        cases: Statistics of at least three cases, as `probe` read them.

    Returns:
        Layer to profile, and per case its distance to a profile of the other cases.

    Raises:
        ProfileError: If there are fewer than three cases, or no layer.
    """
    if len(cases) < 3 or not cases[0]:
        raise ProfileError(
            f"a profile must be made of at least three cases and one layer, got {len(cases)} "
            f"case(s). Give more source cases."
        )
    layers, rows = {}, []
    for name in cases[0]:
        values = np.stack([case[name] for case in cases])
        left_out = [
            _describe(np.delete(values, index, 0)).distance(values[index])
            for index in range(len(values))
        ]
        rows.append(left_out)
        whole = _describe(values)
        layers[name] = LayerProfile(whole.mean, whole.spread, _rounded(sorted(left_out)))
    return layers, [_combine(distances) for distances in zip(*rows, strict=True)]


@contextmanager
def probe(network: nn.Module) -> Iterator[dict[str, NDArray[np.float64]]]:
    """Read the statistics in front of every normalisation layer while a network predicts.

    Without normalisation layers, those in front of every convolution.

    Args:
        network: A private copy; has hooks inside the context.

    Yields:
        Filled when the context ends: layer to (2c,), averaged over all samples of all passes.
    """
    layers = normalisation_layers(network) or {
        name: m for name, m in network.named_modules() if isinstance(m, _CONVOLUTIONS)
    }
    sums: dict[str, list[Tensor]] = {name: [] for name in layers}
    found: dict[str, NDArray[np.float64]] = {}

    def read(name: str, layer: nn.Module, images: Tensor) -> None:
        values = images.detach()
        if isinstance(layer, nn.LayerNorm):  # its channels are the last axis
            values = values.flatten(1, -2).transpose(1, 2)
        flat = values.flatten(2).to(torch.promote_types(values.dtype, torch.float32))
        variance, mean = torch.var_mean(flat, -1, correction=0)
        logarithm = variance.clamp_min(_SMALLEST_VARIANCE).log()
        sums[name].append(torch.cat([mean, logarithm], 1).cpu())

    handles = [
        layer.register_forward_pre_hook(lambda m, args, name=name: read(name, m, args[0]))
        for name, layer in layers.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        found |= {n: torch.cat(v).double().mean(0).numpy() for n, v in sums.items() if v}


def _describe(values: NDArray[np.float64]) -> LayerProfile:
    """Mean and spread of (cases, 2c); means and log variances are shrunk towards medians apart."""
    n = len(values)
    variance = values.var(0, ddof=1)
    halves = np.array_split(variance, 2)
    typical = np.concatenate([np.full_like(half, np.median(half)) for half in halves])
    shrunk = ((n - 1) * variance + _PRIOR_CASES * typical) / (n - 1 + _PRIOR_CASES)
    spread = np.sqrt(np.maximum(shrunk, _SMALLEST_VARIANCE))
    return LayerProfile(_rounded(values.mean(0)), _rounded(spread), ())


def _rounded(values: Any) -> tuple[float, ...]:
    """Five digits: more would only make the file larger."""
    return tuple(float(f"{value:.5g}") for value in values)


def _combine(distances: Any) -> float:
    return float(np.median(list(distances)))


def _percentile(distance: float, known: Sequence[float]) -> float:
    return 100 * float(np.searchsorted(known, distance)) / len(known)


@cache
def _adapter() -> Any:  # TypeAdapter[SourceProfile], which beartype cannot check
    return TypeAdapter(SourceProfile)
