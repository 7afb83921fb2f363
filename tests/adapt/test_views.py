"""Weak views: exact inverses, what was seen, and which fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from grata_monai.adapt.views import (
    Flip,
    Identity,
    Rot90,
    Scale,
    admissible_views,
    is_admissible,
    parse_view,
)
from grata_monai.core.errors import RecipeError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@st.composite
def images_and_exact_views(draw):
    """Images of two or three spatial axes, and a flip or turn of them."""
    dims = draw(st.sampled_from([2, 3]))
    shape = [draw(st.integers(1, 6)) for _ in range(dims + 2)]
    seed = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    images = torch.randn(shape, generator=seed).to(draw(st.sampled_from(DTYPES)))
    axes = draw(st.permutations(range(dims)))
    kind = draw(st.sampled_from(["flip", "turn90", "turn180", "turn270"]))
    count = draw(st.integers(1, dims)) if kind == "flip" else 2
    return images, f"{kind}:{','.join(str(axis) for axis in axes[:count])}"


@given(images_and_exact_views())
def test_flips_and_turns_are_undone_bit_for_bit_and_leave_images_alone(case):
    images, name = case
    before = images.clone()
    view = parse_view(name)
    restored = view.invert(view.apply(images))
    assert view.name == name
    assert restored.dtype == images.dtype
    assert torch.equal(restored, before)
    assert torch.equal(images, before)
    assert view.coverage(images.shape[2:]).min() == 1


def test_flip_mirrors_the_named_spatial_axis():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert parse_view("flip:0").apply(image)[0, 0].tolist() == [[3, 4], [1, 2]]
    assert parse_view("flip:1").apply(image)[0, 0].tolist() == [[2, 1], [4, 3]]
    assert parse_view("flip:0,1").apply(image)[0, 0].tolist() == [[4, 3], [2, 1]]


def test_turns_lead_from_the_first_axis_to_the_second():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert parse_view("turn90:0,1").apply(image)[0, 0].tolist() == [[2, 4], [1, 3]]
    assert parse_view("turn180:0,1").apply(image)[0, 0].tolist() == [[4, 3], [2, 1]]
    assert parse_view("turn270:0,1").apply(image)[0, 0].tolist() == [[3, 1], [4, 2]]
    assert torch.equal(
        parse_view("turn90:1,0").apply(image), parse_view("turn270:0,1").apply(image)
    )


def test_views_keep_the_device(device):
    images = torch.rand(1, 1, 4, 4, 4, device=device)
    for name in ("identity", "flip:2", "turn90:0,1", "scale:1.5"):
        view = parse_view(name)
        assert view.apply(images).device == images.device
        assert view.coverage((4, 4, 4), images.device).device == images.device


def ramp(shape):
    """An image whose value is the sum of its voxel coordinates, counted from the centre."""
    grids = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in shape]
    return sum(torch.meshgrid(*grids, indexing="ij"))[None, None]


def test_scale_magnifies_about_the_centre():
    image = torch.tensor([0.0, 1.0, 2.0, 3.0])[None, None, :, None].expand(1, 1, 4, 2)
    # view voxel i lies at (i - 1.5)/2 + 1.5 = i/2 + .75 in the image
    view = Scale(2.0, (0,)).apply(image)
    assert view[0, 0, :, 0].tolist() == pytest.approx([0.75, 1.25, 1.75, 2.25])
    assert torch.equal(view[..., 0], view[..., 1])


def test_scale_below_one_repeats_the_border():
    image = torch.tensor([0.0, 1.0, 2.0, 3.0])[None, None, :, None].expand(1, 1, 4, 1)
    # view voxel i lies at 2·(i - 1.5) + 1.5 = 2·i - 1.5 in the image, held at 0 … 3
    view = Scale(0.5, (0,)).apply(image)
    assert view[0, 0, :, 0].tolist() == pytest.approx([0, 0.5, 2.5, 3])


@given(
    shape=st.lists(st.integers(6, 12), min_size=2, max_size=3),
    factor=st.floats(1.05, 1.8),
)
def test_scale_of_a_ramp_is_a_ramp_again_where_it_was_seen(shape, factor):
    image = ramp(shape)
    view = Scale(factor)
    seen = view.coverage(shape)
    # linear interpolation keeps a ramp; only the half voxel along the view's border is held
    inner = Scale(factor * 1.3).coverage(shape).bool()
    torch.testing.assert_close(view.apply(image), image / factor)
    torch.testing.assert_close(view.invert(view.apply(image))[inner], image[inner])
    assert set(seen.unique().tolist()) <= {0.0, 1.0}
    assert (seen >= inner.float()).all()


def test_coverage_of_a_magnified_view_leaves_out_the_rim():
    # voxel centres of 8 voxels lie ±.5 … ±3.5 from the centre; the view reaches 4/1.6 = 2.5
    mask = Scale(1.6, (0,)).coverage((8, 3))
    assert mask.shape == (1, 1, 8, 3)
    assert mask.dtype == torch.float32
    assert mask[0, 0, :, 1].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    assert Scale(0.5).coverage((8, 3)).min() == 1


def test_scale_of_all_axes_equals_scale_of_each_named_axis():
    images = torch.rand(2, 3, 5, 6, 7)
    assert torch.equal(Scale(1.3).apply(images), Scale(1.3, (0, 1, 2)).apply(images))
    assert torch.equal(Scale(1.3).coverage((5, 6, 7)), Scale(1.3, (0, 1, 2)).coverage((5, 6, 7)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_keeps_dtype_and_shape_and_leaves_images_alone(dtype):
    images = torch.rand(2, 1, 6, 5, 4).to(dtype)
    before = images.clone()
    view = Scale(1.25, (0, 1))
    back = view.invert(view.apply(images))
    assert (back.dtype, back.shape) == (dtype, images.shape)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("identity", Identity()),
        ("flip:0", Flip((0,))),
        ("flip:0,2", Flip((0, 2))),
        ("turn90:0,1", Rot90(1, (0, 1))),
        ("turn180:1,2", Rot90(2, (1, 2))),
        ("turn270:0,1", Rot90(3, (0, 1))),
        ("scale:1.25", Scale(1.25)),
        ("scale:0.8:0,1", Scale(0.8, (0, 1))),
    ],
)
def test_names_say_the_view_and_views_say_their_name(name, view):
    assert parse_view(name) == view
    assert view.name == name


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("fliip:0", "Did you mean 'flip:0'"),
        ("rotate90:0,1", "must be of the form identity, flip:0"),
        ("turn45:0,1", "got 'turn45:0,1'.*Did you mean 'turn"),
        ("identity:0", "got 'identity:0'"),
        ("flip", "got 'flip'"),
        ("flip:", "invalid literal"),
        ("flip:x", "invalid literal"),
        ("flip:0,0", "must be different spatial axes"),
        ("flip:3", "must be different spatial axes"),
        ("flip:-1", "must be different spatial axes"),
        ("turn90:0", "must be the two of a plane"),
        ("turn90:0,1,2", "must be the two of a plane"),
        ("scale", "got 'scale'"),
        ("scale:1", "factor must lie"),
        ("scale:0", "factor must lie"),
        ("scale:nan", "factor must lie"),
        ("scale:big", "could not convert"),
        ("", "got ''"),
    ],
)
def test_a_wrong_name_is_refused_with_the_forms_and_the_nearest(name, match):
    with pytest.raises(RecipeError, match=match):
        parse_view(name)


def test_turns_other_than_quarters_are_refused():
    with pytest.raises(RecipeError, match="turns must be 1, 2 or 3, got 4"):
        Rot90(4, (0, 1))


@pytest.mark.parametrize(
    ("name", "shape", "spacing", "is_fit"),
    [
        ("turn90:0,1", (8, 8, 4), None, True),
        ("turn90:0,2", (8, 8, 4), None, False),
        ("turn180:0,2", (8, 8, 4), (1.0, 1.0, 3.0), True),
        ("turn270:0,1", (8, 8), (1.0, 1.009), True),
        ("turn270:0,1", (8, 8), (1.0, 1.02), False),
        ("flip:2", (8, 8), None, False),
        ("flip:0,1", (8, 9), None, True),
        ("turn180:1,2", (8, 8), None, False),
        ("scale:1.5:2", (8, 8), None, False),
        ("scale:1.5", (8, 9), (1.0, 3.0), True),
        ("identity", (1, 2), None, True),
    ],
)
def test_a_view_fits_images_that_have_its_axes_and_equal_sides_for_odd_turns(
    name, shape, spacing, is_fit
):
    assert is_admissible(parse_view(name), spatial_shape=shape, spacing=spacing) is is_fit


def test_views_that_do_not_fit_are_dropped_with_the_reason():
    names = ["flip:0", "turn90:0,1", "turn270:1,2", "identity", "flip:2"]
    kept, dropped = admissible_views(names, spatial_shape=(8, 8, 4), spacing=(1.0, 2.0, 2.0))
    assert [view.name for view in kept] == ["flip:0", "identity", "flip:2"]
    assert dropped == {
        "turn90:0,1": "spacings 1 and 2 mm of its axes differ",
        "turn270:1,2": "extents 8 and 4 of its axes differ",
    }


def test_where_no_view_fits_the_identity_remains():
    kept, dropped = admissible_views(["flip:2"], spatial_shape=(8, 8))
    assert kept == [Identity()]
    assert dropped == {"flip:2": "images have 2 spatial axes, none is number 2"}


def test_images_without_channel_axis_are_refused():
    with pytest.raises(TypeCheckError, match="images"):
        Flip((0,)).apply(torch.zeros(4))
