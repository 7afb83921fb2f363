"""GraTaInferer keeps MONAI's contract for inferers, under every mode that a host may set."""

import json
import time

import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from monai.utils import set_determinism

from grata_monai import GraTaInferer, Record
from grata_monai.adapt.network import hash_weights
from grata_monai.core.errors import NothingToAdaptError, RecipeError
from grata_monai.read.elapsed import note_elapsed
from grata_monai.record.types import Precision


@pytest.fixture
def network(device) -> torch.nn.Module:
    set_determinism(0)
    network = UNet(3, 1, 2, (4, 8), (2,), norm="batch").eval().to(device)
    set_determinism(None)
    return network


@pytest.fixture
def inputs(device) -> MetaTensor:
    image = torch.rand(1, 1, 24, 20, 10, generator=torch.Generator().manual_seed(5))
    affine = torch.diag(torch.tensor([0.8, 0.8, 3.0, 1.0]))
    return MetaTensor(image, affine=affine, meta={"filename_or_obj": "case.nii.gz"}).to(device)


def sliding_window(recipe="clinical", **settings) -> GraTaInferer:
    return GraTaInferer(SlidingWindowInferer((16, 16, 8)), recipe, **settings)


def test_the_prediction_carries_its_record_and_the_meta_data_of_the_inputs(inputs, network):
    pred = sliding_window()(inputs=inputs, network=network)
    record = Record.from_json(pred.meta["grata"])
    assert pred.shape == (1, 2, 24, 20, 10)
    assert torch.equal(pred.affine, inputs.affine)
    assert pred.meta["filename_or_obj"] == "case.nii.gz"
    assert record.outcome == "adapted"
    assert record.weights.before == record.weights.restored == hash_weights(network)
    assert record.parameters.groups == ("norm",)
    assert "grata" not in inputs.meta


def test_the_record_survives_decollation(inputs, network):
    pred = sliding_window()(inputs, network)
    assert json.loads(decollate_batch(pred)[0].meta["grata"])["outcome"] == "adapted"


def test_every_case_of_a_batch_is_adapted_by_itself(inputs, network):
    both = torch.cat([inputs.as_tensor(), inputs.as_tensor().flip(2)])
    pred = sliding_window()(both, network)
    alone = [sliding_window()(case, network).as_tensor() for case in both.split(1)]
    torch.testing.assert_close(pred.as_tensor(), torch.cat(alone), atol=0, rtol=0)
    assert len(pred.meta["grata"]) == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_no_mode_around_the_call_changes_the_result(inputs, network, mode):
    expected = sliding_window()(inputs, network)
    with mode():
        pred = sliding_window()(inputs.clone(), network)
    assert torch.equal(pred.as_tensor(), expected.as_tensor())
    assert not pred.requires_grad


def test_an_autocast_around_the_call_does_not_reach_in(inputs, network, device):
    expected = sliding_window()(inputs, network)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        pred = sliding_window()(inputs, network)
    assert torch.equal(pred.as_tensor(), expected.as_tensor())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_predicts_nearly_the_same_in_float32(inputs, network, precision):
    expected = sliding_window()(inputs, network)
    pred = sliding_window(precision=precision)(inputs, network)
    assert pred.dtype == torch.float32
    torch.testing.assert_close(pred.as_tensor(), expected.as_tensor(), atol=0.1, rtol=0.1)
    precisions = Record.from_json(pred.meta["grata"]).environment.precision
    assert precisions == Precision("fp32", precision)


def test_adaptation_in_bfloat16_moves_the_weights(inputs, network):
    pred = sliding_window({"base": "clinical", "precision": "bf16", "source_below": 0.0})(
        inputs, network
    )
    record = Record.from_json(pred.meta["grata"])
    assert record.outcome == "adapted"
    assert all(step.update_norm > 0 for step in record.steps)


def test_the_source_prediction_is_handed_on_when_asked_for(inputs, network):
    pred = sliding_window(keep_source=True)(inputs, network)
    with torch.no_grad():
        expected = SlidingWindowInferer((16, 16, 8))(inputs, network)
    assert torch.equal(pred.meta["grata_source"], expected.as_tensor())


def test_what_a_reader_is_shown_is_handed_on_when_asked_for(inputs, network):
    inferer = sliding_window(keep_maps=True, keep_source=True)
    pred = inferer(torch.cat([inputs, inputs]), network)
    source, maps = pred.meta["grata_source"], pred.meta["grata_maps"]
    assert (maps.dtype, tuple(maps.shape)) == (torch.uint8, (2, 2, 24, 20, 10))
    assert torch.equal(maps[:, 0], source.argmax(1).byte())
    assert "grata_maps" not in sliding_window()(inputs, network).meta


@pytest.mark.parametrize(("channels", "norm"), [(1, "batch"), (3, "instance")])
def test_two_dimensional_networks_adapt_on_images_and_slice_by_slice(channels, norm):
    network_2d = UNet(2, 1, channels, (4, 8), (2,), norm=norm)
    recipe = {"base": "clinical", "min_cosine": None, "focus_views": []}
    flat = GraTaInferer(SimpleInferer(), recipe)(torch.rand(1, 1, 16, 16), network_2d)
    assert Record.from_json(flat.meta["grata"]).outcome == "adapted"
    volume = GraTaInferer(SliceInferer(roi_size=(16, 16), spatial_dim=2), recipe)(
        torch.rand(1, 1, 16, 16, 4), network_2d
    )
    assert volume.shape[2:] == (16, 16, 4)
    assert Record.from_json(volume.meta["grata"]).windows.roi_size == (16, 16, 1)


def test_unequal_spacing_drops_quarter_turns_and_says_so(network, device):
    affine = torch.diag(torch.tensor([0.8, 1.6, 3.0, 1.0]))
    inputs = MetaTensor(torch.rand(1, 1, 16, 16, 8), affine=affine).to(device)
    pred = sliding_window("paper")(inputs, network)
    dropped = Record.from_json(pred.meta["grata"]).views.dropped
    assert set(dropped) == {"turn90:0,1", "turn270:0,1"}


def test_nothing_to_adapt_is_an_error(inputs):
    network = torch.nn.Conv3d(1, 2, 1).to(inputs.device)
    with pytest.raises(NothingToAdaptError, match=r"no normalisation layer.* another method"):
        GraTaInferer(SimpleInferer())(inputs, network)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "clinicl"}, "Did you mean 'clinical'"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"activation": "relu"}, "activation must be auto, sigmoid or softmax"),
        ({"recipe": {"base": "paper", "memory": "online"}}, "must be an OnlineMemory"),
    ],
)
def test_wrong_settings_are_refused_when_the_inferer_is_built(settings, message):
    with pytest.raises(RecipeError, match=message):
        GraTaInferer(SimpleInferer(), **settings)


@pytest.mark.parametrize("name", ["tent", "sar", "diga"])
def test_every_method_can_adapt_and_says_so_in_the_record(inputs, network, name):
    pred = sliding_window(method=name, single_piece=True)(inputs, network)
    record = Record.from_json(pred.meta["grata"])
    assert record.method.name == name
    assert len(record.steps) == 1
    assert record.verdict.light != "none"
    assert record.weights.restored == record.weights.before


def test_a_method_is_named_and_the_nearest_is_suggested(inputs, network):
    with pytest.raises(RecipeError, match="Did you mean 'tent'"):
        sliding_window(method="tennt")


def test_the_guard_can_be_switched_off(inputs, network):
    recipe = {"base": "clinical", "mirror_margin": 1.0}
    texts = [
        sliding_window(recipe, guard=guard)(inputs, network).meta["grata"]
        for guard in (None, False)
    ]
    kept = [Record.from_json(text).verdict.kept for text in texts]
    assert kept[0] == "source"
    assert kept[1] in ("views", "adapted")


def test_a_case_that_takes_too_long_keeps_the_source_its_reading_counts(inputs, network):
    note_elapsed(inputs, time.monotonic() - 100)
    adapted = sliding_window(case_seconds=1000)(inputs, network)
    late = sliding_window(case_seconds=99)(inputs, network)
    assert Record.from_json(adapted.meta["grata"]).outcome == "adapted"
    record = Record.from_json(late.meta["grata"])
    assert (record.outcome, record.verdict.light) == ("source", "red")
    assert "a case must end within case_seconds, 99 s, it did not." in record.reason


def test_a_case_must_be_given_some_time():
    with pytest.raises(ValueError, match="case_seconds must be finite and above 0, got 0"):
        sliding_window(case_seconds=0)
