"""A record is immutable JSON; what earlier versions wrote still loads, unchanged."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from records import ADAPTED

from grata_monai import Record
from grata_monai.adapt.scores import Quality, Score, Selected
from grata_monai.core.errors import RecordError
from grata_monai.record.types import (
    BundleVerification,
    Focus,
    FocusWindow,
    MethodEntry,
    OutcomeName,
    StepEntry,
    Verdict,
)

WRITTEN = Path(__file__).parent / "written"  # by the versions of grata_monai that had the layout
DIGESTS = {  # as those versions computed them
    "1.0": "b0de4e4b65fda791afd99262492422a0f7fa86eae4008cac67e5cdfa2b5e38ef",
    "1.1": "650906b2ac0013edf1c34508f9ad7714ef4a0de362537c04a3fe04bbb550b72c",
    "1.2": "39b08dea9897c40f8687d99a2db8a0e9f3c50a824c9e847397500950f091c680",
    "1.3": "ed2c3caa684098b67876c4e387b006bfc1f22a2587a2f04b8cfe0cae61f52e03",
    "1.4": "1ebe7800d3ae330e8aef6ed6dc9ed775dbcdba53db4e15194e4a336b9b950296",
    "1.5": "bf06ffe4e6302fd1cb0a3c5139e2793b2764933d819a83f769e56a2dd3fa2c33",
}
FULL = replace(
    ADAPTED,
    steps=(StepEntry(0.1, 0.5, loss=2.0), *ADAPTED.steps),
    verdict=Verdict(Quality.AMBER, Selected.ADAPTED, "r", 0.9, True, (Score("a", 0.9, 0.5),)),
    focus=Focus("identity", (1.5, 2.0), (FocusWindow("identity", 1.0, 0.5, 1.0),)),
    environment=replace(ADAPTED.environment, bundle=BundleVerification(True, "0" * 64, "")),
    method=MethodEntry("tent", {"rate": 1e-4}),
    asked={"mirror_margin": None},
)


def read(version: str) -> Record:
    return Record.from_json((WRITTEN / f"{version}.json").read_text())


@pytest.mark.parametrize("record", [ADAPTED, FULL])
def test_a_record_survives_json(record):
    again = Record.from_json(record.to_json())
    assert again == record
    assert hash(again) == hash(record)


def test_words_are_written_as_text():
    content = json.loads(FULL.to_json())
    assert content["outcome"] == "adapted"
    assert content["verdict"]["light"] == "amber"
    assert content["verdict"]["kept"] == "adapted"
    assert content["verdict"]["scores"] == [{"name": "a", "value": 0.9, "threshold": 0.5}]
    assert f"{FULL.outcome} {FULL.verdict.light}" == "adapted amber"


def test_the_digest_leaves_out_the_times_and_nothing_else():
    assert replace(FULL, seconds={"source": 99.0}).digest == FULL.digest
    others = [
        replace(FULL, outcome=OutcomeName.SOURCE),
        replace(FULL, asked={}),
        replace(FULL, method=MethodEntry("sar")),
        replace(FULL, verdict=replace(FULL.verdict, scores=())),
        replace(FULL, steps=FULL.steps[1:]),
    ]
    assert len({FULL.digest, *(other.digest for other in others)}) == 6


def test_a_record_is_frozen():
    with pytest.raises(FrozenInstanceError):
        ADAPTED.outcome = OutcomeName.SOURCE  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        ADAPTED.verdict.light = Quality.GREEN  # type: ignore[misc]


def test_only_steps_that_moved_anything_are_taken():
    assert replace(ADAPTED, steps=(replace(ADAPTED.steps[0], is_taken=False),)).steps_taken == 0
    assert ADAPTED.steps_taken == 5


# ------------------------------------------------------------------------------- older records


@pytest.mark.parametrize("version", DIGESTS)
def test_an_older_record_keeps_its_digest_and_is_written_back_as_it_was(version):
    record = read(version)
    assert record.schema_version == version
    assert record.digest == DIGESTS[version]
    assert json.loads(record.to_json()) == json.loads((WRITTEN / f"{version}.json").read_text())


@pytest.mark.parametrize("version", DIGESTS)
def test_an_older_record_means_what_it_meant(version):
    record = read(version)
    assert record.outcome == ("source" if version == "1.5" else "adapted")
    assert record.weights.before == record.weights.restored
    assert record.parameters.names == ("1.weight", "1.bias")
    assert record.method == MethodEntry("grata")
    assert record.asked == {}
    assert len(record.steps) == (0 if version == "1.5" else 1)


def test_what_an_older_layout_did_not_have_is_empty():
    oldest = read("1.0")
    assert (oldest.verdict, oldest.focus, oldest.views.focus) == (Verdict(), Focus(), ())
    assert read("1.1").environment.bundle is None
    assert read("1.1").focus.found_by == ""
    assert read("1.1").focus.windows != ()
    assert read("1.2").focus.found_by == "identity"
    assert read("1.4").verdict.is_calibrated is None
    assert read("1.5").verdict.is_calibrated is False


def test_an_outcome_by_its_old_name_is_read():
    old = Record.from_json(broken(schema_version="1.6", outcome="unadapted"))
    assert old.outcome == OutcomeName.UNADAPTED


def test_a_record_of_another_layout_is_refused_with_the_versions_that_are_read():
    with pytest.raises(
        RecordError, match=r"schema_version of 1\.0 to 1\.9 or .* got '2\.0'\. Read it"
    ):
        Record.from_json(broken(schema_version="2.0"))


# ------------------------------------------------------------------------------- broken records


def broken(**changes) -> str:
    return json.dumps({**json.loads(FULL.to_json()), **changes})


def without(key: str) -> str:
    content = json.loads(FULL.to_json())
    del content[key]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FULL.to_json()[:-20], r"its text is not: Invalid JSON: EOF"),
        ("[]", r"its text is not: Input should be .*object"),
        (without("weights"), r"weights is not: Field required"),
        (
            broken(outcome="great"),
            r"outcome is not: Input should be 'adapted', 'views', 'source' or",
        ),
        (broken(steps=[{"rate": 0.1, "update_norm": "far"}]), r"steps\.0\.update_norm is not: "),
        (broken(change={**json.loads(FULL.to_json())["change"], "dice": 7}), r"change\.dice is"),
        (broken(weights={"before": "x", "after": "x", "restored": "x"}), r"weights\.before is not"),
    ],
)
def test_a_broken_record_is_refused_with_its_place(text, message):
    with pytest.raises(RecordError, match=f"record must be as its schema says, {message}"):
        Record.from_json(text)


def test_the_refusal_says_what_to_do():
    with pytest.raises(RecordError, match=r"written, or run the case again\.$"):
        Record.from_json("{}")


def test_keys_of_writers_and_of_later_versions_are_ignored():
    later = broken(output={"file": "a"}, later=1, schema_version="1.99")
    assert Record.from_json(later) == replace(FULL, schema_version="1.99")
