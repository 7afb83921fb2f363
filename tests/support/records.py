"""Records of invented cases, for tests of what reads them."""

from dataclasses import replace

from grata_monai.record import SCHEMA_VERSION, Record
from grata_monai.record.types import (
    Change,
    Environment,
    MovingParameters,
    OutcomeName,
    Precision,
    Statistics,
    StepEntry,
    Views,
    WeightHashes,
    Windows,
)

STEP = StepEntry(1e-4, 0.1, auxiliary_loss=0.5, pseudo_loss=0.25, cosine=0.5)
ADAPTED = Record(
    schema_version=SCHEMA_VERSION,
    outcome=OutcomeName.ADAPTED,
    reason="",
    recipe={"name": "grata"},
    recipe_sha256="1" * 64,
    weights=WeightHashes("a" * 64, "b" * 64, "a" * 64),
    parameters=MovingParameters(("norm",), 8, ("norm.weight",)),
    statistics=Statistics(),
    views=Views(prediction=("flip",)),
    windows=Windows((8, 8, 8), ((0, 0, 0),)),
    steps=(STEP,) * 5,
    change=Change(dice=0.9712, source_voxels=100, final_voxels=103, volume_ratio=1.03),
    environment=Environment("cpu", Precision("fp32", "fp32"), seed=0, threads=1),
    seconds={"source": 0.5, "adaptation": 1.0},
    asked_sha256="1" * 64,
)
KEPT = replace(
    ADAPTED,
    outcome=OutcomeName.SOURCE,
    reason="adapted prediction must be finite.",
    steps=(),
)
