"""An invented case as its report shows it: a phantom, a source's mask beside it, and numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
from records import ADAPTED, KEPT, STEP

from grata_monai.adapt.scores import Quality, Score, Selected
from grata_monai.phantom import make_case
from grata_monai.record import Record
from grata_monai.record.types import Focus, FocusWindow, OutcomeName, ShiftEntry, Verdict
from grata_monai.report.case import ReportedCase

SCORES = (Score("mirror_gain", 0.03, 0.01), Score("neighbour_gain", 0.004, 0.0))
GREEN = replace(
    ADAPTED,
    steps=(replace(STEP, cosine=0.25), replace(STEP, cosine=0.75)),
    verdict=Verdict(Quality.GREEN, Selected.ADAPTED, "adapted", 0.93, True, SCORES),
    focus=Focus(
        "identity",
        (1.0, 2.0, 3.0),
        (FocusWindow("identity", 0.9, 0.8, 0.5), FocusWindow("scale:2:0,1", 0.7, 0.6, 0.5)),
    ),
)
AMBER = replace(
    GREEN,
    outcome=OutcomeName.UNADAPTED,
    steps=(),
    verdict=Verdict(
        Quality.AMBER, Selected.VIEWS, "", 0.7, True, (Score("neighbour_gain", -0.02, 0.0),)
    ),
)
RED = replace(
    KEPT,
    reason="magnified views agree too little",
    verdict=Verdict(
        Quality.RED, Selected.SOURCE, "kept source", 0.3, True, (Score("consistency", 0.3, 0.5),)
    ),
)


def report_case(name: str = "one", record: Record = GREEN, **changes: Any) -> ReportedCase:
    """A phantom of 48 × 48 × 8 voxels; the source missed its lowest slice."""
    phantom = make_case(3, spacing=(3.0, 3.0, 9.0), spatial_shape=(48, 48, 8))
    kept = phantom.label.astype(np.uint8)
    source = kept.copy()
    source[..., kept.any((0, 1)).argmax()] = 0
    fields = {
        "name": name,
        "text": record.to_json(),
        "voxels": phantom.image,
        "kept": kept,
        "affine_ras": phantom.affine_ras,
        "source": source,
        "marked": (kept | source << 1).astype(np.uint8),
        "names": {1: "prostate"},
    }
    given = {**fields, **changes}
    return ReportedCase(**{**given, "voxels": given["voxels"].astype(np.float32)})


def report_organs() -> ReportedCase:
    """The same with a label on either side."""
    case = report_case("organs")
    halves = np.ones((48, 1, 1), np.uint8)
    halves[24:] = 2
    assert case.source is not None
    names = {1: "left", 2: "right", 3: "absent"}
    return replace(case, kept=case.kept * halves, source=case.source * halves, names=names)


def with_shift(record: Record, percentile: float) -> str:
    """A record's text with how foreign the case is."""
    return replace(record, shift=ShiftEntry(percentile, 1.0)).to_json()
