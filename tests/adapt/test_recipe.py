"""Recipes are validated, printable, hashable data."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from grata_monai import CLINICAL, PAPER, Recipe, resolve_recipe
from grata_monai.core.errors import RecipeError


def test_paper_holds_the_published_settings():
    assert (PAPER.base_rate, PAPER.steps, PAPER.optimizer) == (1e-4, 1, "Adam")
    assert (PAPER.perturbation, PAPER.image_share) == (1.0, 1.0)
    assert (PAPER.auxiliary_loss, PAPER.pseudo_loss) == ("entropy_half", "consistency")
    assert len(PAPER.weak_views) == 6


def test_a_recipe_survives_json():
    for recipe in (PAPER, CLINICAL):
        again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert again == recipe
        assert again.digest == recipe.digest
        assert hash(again) == hash(recipe)


def test_every_setting_changes_the_digest():
    assert replace(CLINICAL, seed=1).digest != CLINICAL.digest
    assert PAPER.digest != CLINICAL.digest


def test_a_base_fills_the_other_fields():
    recipe = resolve_recipe({"base": "paper", "memory": "online"})
    assert replace(recipe, name="paper", memory="episodic") == PAPER


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        CLINICAL.steps = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepz": 3}, r"recipe fields must be among .* got 'stepz'. Did you mean 'steps'"),
        (
            {"base": "papr"},
            r"base must be among clinical, paper, source, got 'papr'. Did you mean 'paper'",
        ),
        ({"image_share": 1.5}, r"image_share must lie in \[0, 1\], got 1.5"),
        ({"base_rate": -1.0}, "base_rate must be at least 0"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"windows": 0}, "windows must be at least 1"),
        ({"search_views": ["flip:0"]}, "search_views must be scales, got 'flip:0'"),
        ({"search_below": 1.1}, r"search_below must lie in \[0, 1\]"),
        ({"min_cosine": 2.0}, "min_cosine must be None or lie in"),
        ({"weak_views": []}, "weak_views must hold at least one name"),
        ({"weak_views": ["flp:0"]}, "flip"),
        ({"auxiliary_loss": "entropi"}, "auxiliary_loss must be among .* Did you mean 'entropy'"),
        ({"optimizer": "Adm"}, "optimizer must be among .* Did you mean 'Adam'"),
        ({"optimizer_settings": {"betta": 1}}, "optimizer_settings must suit Adam"),
        ({"precision": "fp16"}, "precision must be among bf16, fp32, got 'fp16'"),
        ({"parameters": ["norms"]}, "parameters must be among .* Did you mean 'norm'"),
        ({"mirror_margin": 1.5}, "mirror_margin must be None or lie in"),
        ({"calibrated_for": "bundle"}, "calibrated_for must be None or a SHA-256"),
        (
            {"base": "clinical", "mirror_margin": 0.01, "prediction_views": ["identity"]},
            "prediction_views must be at least two beside mirror_margin",
        ),
    ],
)
def test_a_wrong_setting_says_the_rule_and_the_value(settings, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(settings)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(RecipeError, match=r"got 'clincal'. Did you mean 'clinical'"):
        resolve_recipe("clincal")


def test_digests_from_before_a_field_was_added_stay_valid():
    digest = (
        "2af0b5ccece0426318dd44c08c2562bf9f7ec8a143b5eba6b50832139595397e"  # of 0.1.0's commits
    )
    added = replace(CLINICAL, calibrated_for=None)
    former = replace(added, is_dynamic=True, min_cosine=-0.9, source_below=0.72, red_below=0.84)
    assert former.digest == digest
    assert replace(former, time_limit_s=60.0).digest == digest
    assert replace(former, guard=False).digest != digest
    assert replace(former, mirror_margin=0.0).digest != digest
    assert replace(former, calibrated_for="0" * 64).digest != digest


OWN, OTHER = "0" * 64, "1" * 64


@pytest.mark.parametrize(("margin", "careful"), [(None, 0.01), (-0.02, 0.01), (0.02, 0.02)])
def test_the_guard_is_careful_on_weights_that_nobody_calibrated(margin, careful):
    recipe = replace(CLINICAL, mirror_margin=margin, calibrated_for=OWN)
    assert recipe.suit(OWN) is recipe
    assert recipe.suit(OTHER) == replace(recipe, mirror_margin=careful)
    anywhere = replace(recipe, calibrated_for=None)
    assert anywhere.suit(OTHER) is anywhere


@pytest.mark.parametrize("views", [{"focus_views": ()}, {"prediction_views": ("identity",)}])
def test_without_mirrored_magnified_views_there_is_nothing_to_be_careful_with(views):
    recipe = replace(CLINICAL, calibrated_for=OWN, **views)
    assert recipe.suit(OTHER) is recipe


def test_only_a_guard_with_limits_for_some_weights_is_calibrated_or_not():
    recipe = replace(CLINICAL, calibrated_for=OWN)
    assert (recipe.is_calibrated(OWN), recipe.is_calibrated(OTHER)) == (True, False)
    for changes in ({"calibrated_for": None}, {"guard": False}, {"focus_views": ()}):
        assert replace(recipe, **changes).is_calibrated(OTHER) is None


def test_whoever_gives_a_margin_answers_for_it():
    assert resolve_recipe({"base": "clinical", "steps": 3}).calibrated_for is not None
    for margin in (None, -0.01):
        changed = resolve_recipe({"base": "clinical", "mirror_margin": margin})
        assert changed.suit(OTHER).mirror_margin == margin
    named = {"base": "clinical", "mirror_margin": -0.01, "calibrated_for": OWN}
    assert resolve_recipe(named).suit(OTHER).mirror_margin == 0.01


@pytest.mark.parametrize("limit", [0, -1.5, float("inf"), float("nan")])
def test_a_time_limit_is_a_number_of_seconds(limit):
    with pytest.raises(RecipeError, match="time_limit_s must be None or a number of seconds"):
        replace(CLINICAL, time_limit_s=limit)


def test_the_guard_is_on_or_off():
    recipe = replace(CLINICAL)
    object.__setattr__(recipe, "guard", "off")  # past the type checks of the tests
    with pytest.raises(RecipeError, match="guard must be true or false"):
        recipe.__post_init__()
