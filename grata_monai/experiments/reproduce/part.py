"""One part of a benchmark: a network, the cases that it comes from, and those that it meets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Part"]


@dataclass(frozen=True)
class Part:
    """A network and its cases; everything else is the bundle's configuration.

    Attributes:
        name: Of its folder.
        tests: What methods are compared on, by centre; never seen in training or calibration.
        settings: Ids of the bundle's inference configuration and their values.
        training: Cases to train on; none keeps the bundle's own weights.
        training_settings: Ids of the bundle's training configuration and their values.
        source: Labelled source cases whose shapes are known to methods that want a prior.
        calibration: Source cases that training did not see; none keeps the recipes as they are.
        candidates: Settings to calibrate among, by name; the built-in ones if there are none.
        calibration_shifts: Shifts of the calibration; ``none`` among them.
        shifts: Shifts of those tests whose centre is ``source``; the others come as they are.
    """

    name: str
    tests: Sequence[Mapping[str, str]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    training: Sequence[Mapping[str, str]] = ()
    training_settings: Mapping[str, Any] = field(default_factory=dict)
    source: Sequence[Mapping[str, str]] = ()
    calibration: Sequence[Mapping[str, str]] = ()
    candidates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration_shifts: Sequence[str] = ("none",)
    shifts: Sequence[str] = ("none",)
