"""A source profile says how foreign a case is, from the statistics of one pass."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from grata_monai.adapt.profile import (
    Shift,
    SourceProfile,
    describe_image,
    probe,
    profile_layers,
)
from grata_monai.core.errors import ProfileError


def make_network(kind="batch"):
    torch.manual_seed(0)
    norms = {
        "batch": nn.BatchNorm3d(4),
        "instance": nn.InstanceNorm3d(4),
        "group": nn.GroupNorm(2, 4),
        "none": nn.Identity(),
    }
    return nn.Sequential(nn.Conv3d(1, 4, 3), norms[kind], nn.ReLU(), nn.Conv3d(4, 2, 1)).eval()


def look(network, images):
    with torch.no_grad(), probe(network) as statistics:
        network(images)
    return statistics


def make_images(count, *, scale=1.0, first=0):
    for seed in range(first, first + count):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((1, 1, 8, 8, 8), generator=generator)
        yield scale * (noise + 0.1 * seed)


def make_profile(network, count=8):
    layers, distances = profile_layers([look(network, image) for image in make_images(count)])
    return SourceProfile("0" * 64, count, layers, tuple(sorted(distances)))


def test_statistics_are_channel_means_and_log_variances():
    network = make_network()
    images = torch.cat(list(make_images(2)))
    with torch.no_grad():
        inputs = network[0](images)
    expected = torch.cat(
        [inputs.mean((2, 3, 4)), inputs.var((2, 3, 4), correction=0).log()], 1
    ).mean(0)
    found = look(network, images)
    assert list(found) == ["1"]
    np.testing.assert_allclose(found["1"], expected.numpy(), rtol=1e-5, atol=1e-5)


def test_several_passes_are_averaged_and_no_hook_stays():
    network = make_network()
    one, two = make_images(2)
    with torch.no_grad(), probe(network) as both:
        network(one)
        network(two)
    mean = (look(network, one)["1"] + look(network, two)["1"]) / 2
    np.testing.assert_allclose(both["1"], mean, rtol=1e-6)
    assert not network[1]._forward_pre_hooks


def test_layer_norm_has_its_channels_last():
    network = nn.Sequential(nn.LayerNorm(3))
    tokens = torch.randn(1, 5, 3)
    found = look(network, tokens)["0"]
    np.testing.assert_allclose(found[:3], tokens[0].mean(0).numpy(), atol=1e-6)


def test_a_network_without_normalisation_is_read_at_its_convolutions():
    assert list(look(make_network("none"), next(make_images(1)))) == ["0", "3"]


@pytest.mark.parametrize("kind", ["batch", "instance", "group", "none"])
def test_a_case_of_another_scanner_is_more_foreign_than_every_source_case(kind):
    network = make_network(kind)
    profile = make_profile(network)
    (home,), (foreign,) = make_images(1, first=3), make_images(1, scale=6.0, first=3)
    near, far = (profile.shift(look(network, image)) for image in (home, foreign))
    assert near.percentile < 100
    assert far.percentile == 100
    assert far.distance > 3 * near.distance
    assert set(far.layers) == set(profile.layers)


def test_the_distance_is_the_median_over_layers_of_root_mean_squares():
    network = make_network("none")
    profile = make_profile(network)
    statistics = look(network, next(make_images(1, first=20)))
    by_hand = []
    for name, layer in profile.layers.items():
        z = (statistics[name] - np.array(layer.mean)) / np.array(layer.spread)
        by_hand.append(np.sqrt((z**2).mean()))
    assert profile.shift(statistics).distance == pytest.approx(np.median(by_hand))


def test_spreads_are_shrunk_towards_the_layers_median():
    values = [{"a": np.array([x, 0.0, 5 * x, 0.0])} for x in (-1.0, 0.0, 1.0)]
    layers, _ = profile_layers(values)
    # means: variances 1 and 0, median .5; (2·1 + 5·.5)/7 and (2·0 + 5·.5)/7
    np.testing.assert_allclose(
        np.square(layers["a"].spread), [4.5 / 7, 2.5 / 7, 112.5 / 7, 62.5 / 7], rtol=1e-4
    )


def test_left_out_distances_come_from_profiles_of_the_others():
    values = [{"a": np.array([x, x])} for x in (0.0, 0.1, -0.1, 0.05, 9.0)]
    layers, distances = profile_layers(values)
    assert max(distances) == distances[4] > 20
    assert layers["a"].distances == tuple(sorted(layers["a"].distances))


def test_fewer_than_three_cases_are_no_profile():
    with pytest.raises(ProfileError, match="at least three cases"):
        profile_layers([{"a": np.zeros(2)}] * 2)


def test_a_profile_survives_json(tmp_path):
    profile = replace(make_profile(make_network()), home_below=1.5)
    path = tmp_path / "profile.json"
    path.write_text(profile.to_json())
    assert SourceProfile.read(path) == profile
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("text", "named"),
    [("[]", "its text"), ("{}", "weights"), ('{"weights": 3}', "weights"), ("{", "its text")],
)
def test_a_text_that_is_no_profile_is_refused(text, named):
    with pytest.raises(ProfileError, match=f"{named} is not"):
        SourceProfile.from_json(text)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ProfileError, match="calibrate"):
        SourceProfile.read(tmp_path / "none.json")


def test_layers_of_another_network_are_refused():
    profile = make_profile(make_network())
    with pytest.raises(ProfileError, match="layers of the network"):
        profile.shift({"other": np.zeros(8)})


def test_images_are_told_by_quantiles_and_millimetres():
    ramp = torch.linspace(0, 1, 8 * 4 * 2).reshape(1, 1, 8, 4, 2)
    found = describe_image(ramp, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(found["intensities"], np.linspace(0, 1, 11), atol=1e-6)
    np.testing.assert_allclose(np.exp(found["field of view"]), [8, 8, 6])


def test_a_shift_is_plain_data():
    shift = Shift(50.0, 1.0, {"a": 10.0})
    assert json.loads(json.dumps(vars(shift)))["percentile"] == 50
