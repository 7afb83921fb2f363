"""The record reads out what an episode did: what ran, what was asked, and what the guard saw."""

import json

import jsonschema
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from grata_monai import GraTaInferer, Record
from grata_monai.adapt.guard import Decision
from grata_monai.adapt.method import Episode
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe
from grata_monai.adapt.result import EpisodeResult, SourcePrediction
from grata_monai.adapt.scores import Quality, Score, Selected
from grata_monai.methods.registry import resolve_method
from grata_monai.record import make_record
from grata_monai.record.schema import record_schema
from grata_monai.record.types import MethodEntry

OWN = CLINICAL.guard.calibrated_for
FOREIGN = "f" * 64


def adapt(recipe, method="grata", seed=0, **settings) -> Record:
    torch.manual_seed(seed)
    network = UNet(3, 1, 2, (4, 8), (2,), norm="batch").eval()
    images = torch.rand(1, 1, 16, 16, 8)
    inferer = GraTaInferer(SlidingWindowInferer((16, 16, 8)), recipe, method=method, **settings)
    return Record.from_json(inferer(images, network).meta["grata"])


def make(recipe: Recipe, weights: str = OWN, **changes) -> Record:
    logits = torch.stack([torch.zeros(2, 2, 2), torch.ones(2, 2, 2)])[None]
    source = SourcePrediction(logits, "softmax", weights, nn.Identity(), 0.5)
    effective = recipe.with_safety_margin(weights)
    same = {"weights_after": weights, "weights_restored": weights}
    result = EpisodeResult(source, logits, effective, "grata", **same, **changes)
    method = resolve_method("grata", recipe)
    episode = Episode(logits, lambda images, network: images, method, recipe)
    return make_record(result, episode, device=torch.device("cpu"), precision="fp32")


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
    assert record.recipe_sha256 == CLINICAL.changed(mirror_margin=0.01).digest
    assert record.asked_sha256 == CLINICAL.digest
    assert record.verdict.is_calibrated is False


@pytest.mark.parametrize("recipe", [CLINICAL, PAPER])
def test_where_caution_changes_nothing_both_are_the_same(recipe):
    record = make(recipe)
    assert record.recipe == recipe.to_dict()
    assert record.asked == {}
    assert record.recipe_sha256 == record.asked_sha256 == recipe.digest


def test_the_decision_and_its_scores_are_read_out():
    scores = (Score("mirror_gain", 0.125, 0.01), Score("consistency", 0.9, 0.73))
    decision = Decision(Quality.AMBER, Selected.VIEWS, "r", 0.9, scores)
    record = make(CLINICAL, FOREIGN, decision=decision)
    assert record.verdict.light is Quality.AMBER
    assert record.verdict.kept is Selected.VIEWS
    assert record.verdict.agreement == 0.9
    assert record.verdict.scores == scores
    assert Record.from_json(record.to_json()) == record


def test_without_magnified_views_there_are_no_scores():
    assert make(PAPER).verdict.scores == ()


def test_a_peer_has_its_settings_beside_the_recipe_and_one_loss_a_step():
    record = adapt("clinical", method="tent", single_piece=True)
    assert record.method == MethodEntry("tent", {"rate": 1e-3, "steps": 1, "is_online": True})
    assert record.recipe["name"] == "clinical"
    (step,) = record.steps
    assert step.loss > 0
    assert (step.rate, step.cosine, step.auxiliary_loss) == (1e-3, None, None)


def test_a_variant_of_grata_brings_its_steps_into_the_recipe_that_is_recorded():
    record = adapt("clinical", method="grata-paper")
    assert record.recipe["base_rate"] == PAPER.steps.base_rate
    assert record.recipe["focus_views"] == list(CLINICAL.multiscale.views)
    assert record.method == MethodEntry("grata")
    assert record.asked["base_rate"] == CLINICAL.steps.base_rate
    assert record.asked_sha256 == CLINICAL.digest != record.recipe_sha256


SINGLE = {"base": "paper", "prediction_views": ["identity"], "image_share": 0.0}


@pytest.mark.parametrize(
    ("method", "settings", "outcome"),
    [
        ("mirror", {}, "views"),
        pytest.param("n4", {}, "views", marks=pytest.mark.slow),
        ("grata", {"steps": 0, "prediction_views": ["identity", "flip:0"]}, "views"),
        ("grata", {"base_rate": 0.0}, "source"),
        ("grata", {}, "adapted"),
    ],
)
def test_the_outcome_says_what_made_the_mask(method, settings, outcome):
    record = adapt({**SINGLE, **settings}, method=method, seed=1)
    assert record.outcome == outcome
    assert (record.reason == "no step changed the network") == (outcome == "source")
