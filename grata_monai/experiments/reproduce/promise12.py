"""PROMISE12: the bundle's own network, in the hospitals that it comes from and in two others."""

from collections.abc import Sequence
from pathlib import Path

from grata_monai.experiments.reproduce.part import Part
from grata_monai.read.cases import list_cases, split_cases

__all__ = ["promise12"]

_SOURCE, _TARGETS = ("RUNMC", "UCL"), ("HK", "BIDMC")
_HELD_BACK = 5  # as bundle/configs/train.json


def promise12(data: Path, *, cases: int, shifts: Sequence[str], seed: int) -> list[Part]:
    """Compare on the source cases that training held back, and on HK and BIDMC.

    Args:
        data: Folder with a folder per centre, each with ``images/`` and ``labels/``.
        cases: Most cases of each centre.
        shifts: Not used: the targets are foreign by themselves.
        seed: Not used: which cases training held back is a matter of the bundle.

    Returns:
        One part. Recipes stay as they are: `clinical` was calibrated on source cases already.

    Raises:
        DatasetError: If the folder or a centre is missing.
    """
    source = list_cases(data, labels=True, only=_SOURCE)
    training, held_back = split_cases(source, held_back=_HELD_BACK, seed=0)
    tests = [{**case, "centre": "source"} for case in held_back[:cases]]
    for centre in _TARGETS:
        tests += list_cases(data, labels=True, only=[centre])[:cases]
    return [Part("bundle", tests, source=training)]
