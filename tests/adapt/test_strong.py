"""Strong views against values by hand and against scipy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from grata_monai.adapt.strong import STRONG_VIEWS, Draw, StrongView
from grata_monai.core.errors import RecipeError

OFF = Draw(1.0, 1.0, 0.0)
NOTHING = StrongView(OFF, OFF, OFF, OFF, OFF, rescale=False)


def only(**transforms) -> StrongView:
    """A strong view of the named transforms alone; wide range, no rescaling."""
    return replace(NOTHING, blur_per_channel=1.0, **transforms)


def always(value: float) -> Draw:
    return Draw(value, value, 1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 7, 9, generator=seeded(5))


def test_nothing_chosen_changes_nothing(images):
    assert torch.equal(NOTHING(images, generator=seeded()), images)


def test_brightness_multiplies_then_the_old_range_cuts_off():
    image = torch.tensor([0.2, 0.4, 1.0])[None, None, :, None]
    view = only(brightness=always(1.5))(image, generator=seeded())
    assert view.flatten().tolist() == pytest.approx([0.3, 0.6, 1.0])


def test_contrast_stretches_about_the_mean_and_keeps_the_range():
    image = torch.tensor([0.0, 0.4, 0.5, 1.1])[None, None, :, None]
    # mean .5: .5 + 1.5·(x - .5) = -.25, .35, .5, 1.4, cut off at 0 and 1.1
    view = only(contrast=always(1.5))(image, generator=seeded())
    assert view.flatten().tolist() == pytest.approx([0, 0.35, 0.5, 1.1])


def test_gamma_works_on_the_inverted_image():
    image = torch.tensor([0.0, 0.25, 1.0])[None, None, :, None]
    # inverted and normalised: 1, .75, 0; squared: 1, .5625, 0; inverted back: 0, .4375, 1
    view = only(gamma=always(2.0))(image, generator=seeded())
    assert view.flatten().tolist() == pytest.approx([0, 0.4375, 1], abs=1e-6)


def test_the_range_of_the_noise_is_its_standard_deviation():
    image = torch.full((1, 2, 100, 100), 0.5)
    image[..., 0, 0], image[..., 0, 1] = -10, 10  # a range that cuts nothing off
    view = only(noise=always(0.05))(image, generator=seeded())
    residue = (view - image)[..., 1:, :]
    assert residue.std().item() == pytest.approx(0.05, rel=0.03)
    assert residue.mean().item() == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("shape", [(1, 1, 12, 3), (1, 2, 6, 9, 4)])
@pytest.mark.parametrize("sigma", [0.4, 0.5, 1.5])
def test_blur_equals_scipys_gaussian_filter(shape, sigma):
    image = torch.rand(shape, generator=seeded(2), dtype=torch.float64)
    expected = np.stack([gaussian_filter(channel, sigma) for channel in image[0].numpy()])
    view = only(blur=always(sigma))(image, generator=seeded())
    np.testing.assert_allclose(view[0].numpy(), expected, atol=1e-12)


def test_a_blur_of_no_width_changes_nothing(images):
    torch.testing.assert_close(only(blur=always(0.0))(images, generator=seeded()), images)


def test_channels_draw_their_own_factors_and_cases_toss_their_own_coins():
    images = torch.full((40, 2, 2, 2), 1.0)
    images[..., 0, 0] = 9.0
    factors = only(brightness=Draw(0.5, 1.0, 0.5))(images, generator=seeded())[..., 0, 0] / 9
    is_changed = factors != 1
    assert torch.equal(is_changed[:, 0], is_changed[:, 1])
    assert 10 < is_changed[:, 0].sum() < 30
    assert (factors[:, 0] != factors[:, 1])[is_changed[:, 0]].all()


def test_a_channel_is_blurred_by_a_coin_of_its_own():
    images = torch.rand(200, 2, 3, 3, generator=seeded(1))
    view = replace(only(blur=Draw(1.0, 1.0, 1.0)), blur_per_channel=0.5)
    is_changed = (view(images, generator=seeded()) != images).flatten(2).any(2)
    assert is_changed.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (is_changed[:, 0] != is_changed[:, 1]).any()


def test_half_of_the_gammas_lie_below_one():
    draw = Draw(0.5, 2.0, 1.0)
    position = torch.tensor([0.0, 0.25, 0.5, 0.75])
    assert draw.around_one(position).tolist() == [0.5, 0.75, 1.0, 1.5]
    assert draw.uniform(position).tolist() == [0.5, 0.875, 1.25, 1.625]
    assert Draw(1.0, 3.0, 1.0).around_one(position).tolist() == [1.0, 1.5, 2.0, 2.5]


def test_the_papers_view_fills_zero_to_one_over_all_channels_of_each_case(images):
    view = STRONG_VIEWS["paper"](images * 7 + 3, generator=seeded())
    assert view.flatten(1).amin(1).tolist() == [0, 0]
    assert view.flatten(1).amax(1).tolist() == pytest.approx([1, 1])


def test_the_mild_view_stays_within_the_range_of_each_channel(images):
    images = images * 7 + 3
    for seed in range(5):
        view = STRONG_VIEWS["mild"](images, generator=seeded(seed)).flatten(2)
        assert (view.amin(2) >= images.flatten(2).amin(2)).all()
        assert (view.amax(2) <= images.flatten(2).amax(2)).all()


@given(
    name=st.sampled_from(sorted(STRONG_VIEWS)),
    seed=st.integers(0, 2**31),
    shape=st.lists(st.integers(1, 5), min_size=4, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    is_constant=st.booleans(),
)
def test_views_are_reproducible_finite_and_leave_images_alone(
    name, seed, shape, dtype, is_constant
):
    images = torch.rand(shape, generator=seeded(1)).to(dtype)
    images = torch.full_like(images, 0.3) if is_constant else images
    before = images.clone()
    first = STRONG_VIEWS[name](images, generator=seeded(seed))
    assert torch.equal(first, STRONG_VIEWS[name](images, generator=seeded(seed)))
    assert torch.equal(images, before)
    assert (first.shape, first.dtype) == (images.shape, dtype)
    assert torch.isfinite(first).all()


def test_the_generator_decides_and_advances(images):
    generator = seeded()
    first, second = (STRONG_VIEWS["paper"](images, generator=generator) for _ in range(2))
    assert not torch.equal(first, second)


def test_the_generator_advances_alike_whatever_is_applied(images):
    one, two = seeded(), seeded()
    STRONG_VIEWS["paper"](images, generator=one)
    NOTHING(images, generator=two)
    assert torch.equal(one.get_state(), two.get_state())


def test_a_generator_of_the_cpu_serves_every_device(images, device):
    here = STRONG_VIEWS["paper"](images, generator=seeded())
    there = STRONG_VIEWS["paper"](images.to(device), generator=seeded())
    torch.testing.assert_close(there.cpu(), here, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ((1.5, 0.5, 0.5), "lowest and highest must satisfy"),
        ((-0.5, 0.5, 0.5), "lowest and highest must satisfy"),
        ((0.5, 1.5, 1.5), "probability must lie"),
    ],
)
def test_impossible_draws_are_refused(numbers, match):
    with pytest.raises(RecipeError, match=match):
        Draw(*numbers)
