"""The record reads out what an episode did: what ran, what was asked, and what the guard saw."""

import json
from dataclasses import replace

import jsonschema
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet

from grata_monai import GraTaInferer, Record
from grata_monai.adapt.case import Outcome
from grata_monai.adapt.guard import Verdict
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe
from grata_monai.adapt.scores import Quality, Score, Selected
from grata_monai.record import make_record
from grata_monai.record.schema import record_schema
from grata_monai.record.types import MethodEntry

OWN = CLINICAL.calibrated_for
FOREIGN = "f" * 64


def adapt(recipe) -> Record:
    torch.manual_seed(0)
    network = UNet(3, 1, 2, (4, 8), (2,), norm="batch").eval()
    images = torch.rand(1, 1, 16, 16, 8)
    pred = GraTaInferer(SlidingWindowInferer((16, 16, 8)), recipe)(images, network)
    return Record.from_json(pred.meta["grata"])


def make(recipe: Recipe, weights: str = OWN, **changes) -> Record:
    logits = torch.stack([torch.zeros(2, 2, 2), torch.ones(2, 2, 2)])[None]
    hashes = {"before": weights, "after": weights, "restored": weights}
    outcome = Outcome(logits, logits, weights=hashes, **changes)
    return make_record(outcome, recipe, device=torch.device("cpu"), precision="fp32")


@pytest.mark.parametrize("recipe", ["clinical", "paper", "source"])
def test_a_real_record_obeys_the_schema(recipe):
    record = adapt(recipe)
    content = json.loads(record.to_json())
    jsonschema.validate(content, record_schema(), cls=jsonschema.Draft202012Validator)
    versions = {"python", "grata-monai", "monai", "torch", "numpy"}
    assert set(record.environment.versions) == versions
    assert record.environment.device == "cpu"
    assert record.method == MethodEntry("grata")


def test_the_recipe_that_ran_is_recorded_and_what_was_asked_beside_it():
    record = make(CLINICAL, FOREIGN)
    assert record.recipe["mirror_margin"] == 0.01
    assert record.asked == {"mirror_margin": None}
    assert record.recipe_sha256 == replace(CLINICAL, mirror_margin=0.01).digest
    assert record.asked_sha256 == CLINICAL.digest
    assert record.verdict.is_calibrated is False


@pytest.mark.parametrize("recipe", [CLINICAL, PAPER])
def test_where_caution_changes_nothing_both_are_the_same(recipe):
    record = make(recipe)
    assert record.recipe == recipe.to_dict()
    assert record.asked == {}
    assert record.recipe_sha256 == record.asked_sha256 == recipe.digest


def test_scores_say_what_decided_whether_the_source_is_kept():
    verdict = Verdict("amber", "views", "r", 0.9)
    record = make(CLINICAL, FOREIGN, verdict=verdict, mirrored=(0.75, 0.875))
    assert record.verdict.light is Quality.AMBER
    assert record.verdict.kept is Selected.VIEWS
    assert record.verdict.scores == (
        Score("agreement", 0.9, 0.73),
        Score("mirrored, whole image", 0.75),
        Score("mirrored, magnified", 0.875, 0.75 + 0.01),
    )


def test_without_a_binding_guard_a_score_has_no_threshold():
    verdict = Verdict("amber", "adapted", "r", 0.9)
    record = make(replace(CLINICAL, guard=False), verdict=verdict)
    assert record.verdict.scores == (Score("agreement", 0.9, None),)


def test_without_magnified_views_there_are_no_scores():
    assert make(PAPER).verdict.scores == ()


def test_an_agreement_that_rounding_lifts_above_one_is_one():
    record = make(CLINICAL, verdict=Verdict("green", "views", "r", 1.0000000000000002))
    assert record.verdict.agreement == record.verdict.scores[0].value == 1.0
    assert Record.from_json(record.to_json()) == record
