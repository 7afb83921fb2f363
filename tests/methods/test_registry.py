"""Names of systems."""

import pytest

from grata_monai.adapt.recipe import CLINICAL
from grata_monai.methods.registry import METHODS, make_methods


def test_all_systems_run_unless_some_are_named():
    assert list(make_methods()) == list(METHODS)
    assert list(make_methods(["tent"])) == ["source", "tent"]


def test_every_ablation_changes_the_clinical_recipe_and_nothing_runs_twice():
    found = make_methods(["ablations"])
    assert len(found) > 10
    digests = {method.recipe.digest for name, method in found.items() if name != "source"}
    assert len(digests) == len(found) - 1
    assert CLINICAL.digest not in digests
    (alone,) = set(make_methods(["clinical-no-alignment"])) - {"source"}
    assert found[alone].recipe.perturbation == 0


def test_an_unknown_system_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'tent'"):
        make_methods(["tentt"])
