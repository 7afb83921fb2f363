"""Names of methods and systems."""

import pytest

from grata_monai import resolve_recipe
from grata_monai.adapt.recipe import CLINICAL, PAPER
from grata_monai.core.errors import RecipeError
from grata_monai.methods.grata import GraTaMethod
from grata_monai.methods.registry import METHODS, SYSTEMS, make_systems, resolve_method
from grata_monai.methods.tent import Tent


def test_all_systems_run_unless_some_are_named():
    assert list(make_systems()) == list(SYSTEMS)
    assert list(make_systems(["tent"])) == ["source", "tent"]


def test_peers_run_as_published_and_variants_of_grata_under_their_recipe():
    found = make_systems(["tent", "grata-paper", "grata-clinical", "grata-views"])
    assert found["tent"].recipe is None
    assert found["grata-paper"].recipe == PAPER
    assert found["grata-paper"].method == GraTaMethod(PAPER.steps, is_online=True)
    assert found["grata-clinical"].method == GraTaMethod(CLINICAL.steps)
    assert found["grata-views"].method.is_source
    assert found["tent"].settings == {"rate": 1e-3, "steps": 1, "is_online": True}
    assert found["grata-clinical"].settings == CLINICAL.to_dict()


def test_every_ablation_changes_the_clinical_recipe_and_nothing_runs_twice():
    found = make_systems(["ablations"])
    assert len(found) > 10
    digests = {system.recipe.digest for name, system in found.items() if name != "source"}
    assert len(digests) == len(found) - 1
    assert CLINICAL.digest not in digests
    (alone,) = set(make_systems(["clinical-no-alignment"])) - {"source"}
    assert found[alone].recipe.steps.perturbation == 0


def test_the_objectives_are_all_pairs_of_the_papers_losses_online():
    found = make_systems(["objectives"])
    assert len(found) == 1 + 6 * 6
    system = found["pseudo-rotation-auxiliary-consistency"]
    assert system.method.is_online
    assert system.recipe.steps.pseudo_loss == "flips_and_turns"
    assert system.recipe.steps.auxiliary_loss == "consistency"
    published = found["pseudo-consistency-auxiliary-entropy"].recipe
    assert published.steps == PAPER.steps


def test_the_rates_are_dynamic_or_fixed_guarded_or_not():
    found = make_systems(["rates", "tent"])
    assert list(found)[-1] == "tent"
    assert len(found) == 1 + 2 * 2 * 2 + 1
    plain, guarded = (found[f"rate-0.01-dynamic{kind}"].recipe for kind in ("", "-guarded"))
    for recipe in (plain, guarded):
        assert (recipe.steps.count, recipe.steps.base_rate, recipe.steps.is_dynamic) == (5, 0.01, 1)
        assert recipe.steps.image_share == 0
        assert recipe.steps.min_cosine is None
    assert not plain.multiscale.views
    assert guarded.multiscale == CLINICAL.multiscale


def test_an_unknown_system_is_named_with_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'tent'"):
        make_systems(["tentt"])


def test_a_method_is_resolved_by_its_name():
    recipe = resolve_recipe({"base": "clinical", "steps": 2})
    assert resolve_method("grata", recipe) == GraTaMethod(recipe.steps)
    assert resolve_method("grata-paper", recipe) == GraTaMethod(PAPER.steps)
    assert resolve_method("tent", recipe) == Tent()
    assert resolve_method(Tent(rate=1.0), recipe) == Tent(rate=1.0)
    assert all(resolve_method(name, recipe).name == name for name in METHODS)
    with pytest.raises(RecipeError, match="Did you mean 'sar'"):
        resolve_method("sarr", recipe)
