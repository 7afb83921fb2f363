"""The record is immutable JSON that its published schema describes."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import jsonschema
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet

from grata_monai import GraTaInferer, Record

SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "record.schema.json"


@pytest.fixture(scope="module")
def record() -> Record:
    torch.manual_seed(0)
    network = UNet(3, 1, 2, (4, 8), (2,), norm="batch").eval()
    images = torch.rand(1, 1, 16, 16, 8)
    pred = GraTaInferer(SlidingWindowInferer((16, 16, 8)))(images, network)
    return Record.from_json(pred.meta["grata"])


def test_the_schema_describes_the_record(record):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(record.to_json()), schema)


def test_the_schema_refuses_a_record_without_its_weights(record):
    content = json.loads(record.to_json())
    del content["weights"]
    with pytest.raises(jsonschema.ValidationError, match="'weights' is a required property"):
        jsonschema.validate(content, json.loads(SCHEMA.read_text()))


def test_a_record_survives_json(record):
    again = Record.from_json(record.to_json())
    assert again == record
    assert hash(again) == hash(record)


def test_the_digest_leaves_out_the_times_and_nothing_else(record):
    assert replace(record, seconds={"source": 99.0}).digest == record.digest
    assert replace(record, outcome="source").digest != record.digest


def test_a_record_is_frozen(record):
    with pytest.raises(FrozenInstanceError):
        record.outcome = "source"


def test_the_record_holds_what_a_reader_asks_for(record):
    assert record.environment["device"] == "cpu"
    assert record.environment["seed"] == 0
    assert set(record.environment["versions"]) == {
        "python",
        "grata-monai",
        "monai",
        "torch",
        "numpy",
    }
    assert set(record.steps[0]) >= {
        "auxiliary_loss",
        "pseudo_loss",
        "cosine",
        "rate",
        "update_norm",
    }
    assert 0 <= record.change["dice"] <= 1
    assert set(record.seconds) == {"source", "adaptation", "prediction"}
