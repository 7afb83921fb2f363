import pytest

from grata_monai.adapt.recipe import CLINICAL
from grata_monai.nnunet.views import fit_recipe, network_axes

AXES = network_axes([0, 1, 2])


def test_exchanged_axes_are_followed():
    # the plans put the file's x first: (z, y, x) becomes (x, z, y)
    assert network_axes([2, 0, 1]) == {0: 0, 1: 2, 2: 1}


def test_in_plane_magnifications_stay_in_the_plane():
    fitted = fit_recipe(CLINICAL, AXES, (0, 1, 2))
    assert fitted.multiscale.views == (
        "scale:0.75:1,2",
        "identity",
        "scale:1.33:1,2",
        "scale:2:1,2",
    )
    assert fitted.prediction_views == ("identity", "flip:2")
    assert fitted.guard == CLINICAL.guard


def test_a_turn_keeps_its_direction():
    recipe = CLINICAL.changed(weak_views=["rot90:0,1"])
    assert fit_recipe(recipe, AXES, (0, 1, 2)).steps.weak_views == ("turn90:2,1",)


def test_a_flip_that_training_did_not_know_becomes_one_that_it_did():
    assert fit_recipe(CLINICAL, AXES, (0, 1)).prediction_views == ("identity", "flip:0")


def test_the_axes_of_a_2d_network_are_counted_in_its_plane():
    # axis 1 of the plane (row, column) is the file's x; training mirrored only axis 0, its y
    assert fit_recipe(CLINICAL, AXES, (0,), dims=2).prediction_views == ("identity", "flip:1")
    assert fit_recipe(CLINICAL, AXES, (0, 1), dims=2).prediction_views == ("identity", "flip:2")


@pytest.mark.parametrize("mirroring", [None, ()])
def test_without_mirroring_the_flip_is_left_to_the_inferer_to_drop(mirroring):
    assert fit_recipe(CLINICAL, AXES, mirroring).prediction_views == ("identity", "flip:2")


def test_two_flips_do_not_become_the_same_one_twice():
    recipe = CLINICAL.changed(weak_views=["flip:0", "flip:1", "identity"])
    assert fit_recipe(recipe, AXES, (0,)).steps.weak_views == ("flip:0", "identity")
