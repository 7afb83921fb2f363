"""One precision per forward pass, whatever is active outside."""

import pytest
import torch
from monai.inferers import SimpleInferer

from grata_monai.core.errors import RecipeError
from grata_monai.core.precision import PRECISIONS, AutocastInferer, autocast, memory_format


def multiply(device: torch.device) -> torch.Tensor:
    return torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_a_product_has_the_precision_asked_for(precision, dtype, device):
    with autocast(device, precision):
        assert multiply(device).dtype == dtype
    assert set(PRECISIONS) == {"fp32", "bf16", "fp16"}


def test_fp32_switches_an_outer_autocast_off(device):
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert multiply(device).dtype == torch.bfloat16
        with autocast(device, "fp32"):
            assert multiply(device).dtype == torch.float32


def test_an_unknown_precision_is_refused(device):
    with pytest.raises(RecipeError, match=r"fp32, bf16, fp16, got 'half'. Use 'fp32'"):
        autocast(device, "half")
    with pytest.raises(RecipeError, match="got 'half'"):
        AutocastInferer(SimpleInferer(), "half")


@pytest.mark.parametrize(
    ("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)]
)
def test_channels_last_has_a_name_per_number_of_axes(dims, layout):
    assert memory_format(dims) is layout


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_inferer_returns_float32_close_to_the_plain_network(precision, device):
    network = torch.nn.Conv3d(1, 2, 3, padding=1).to(device)
    images = torch.rand(1, 1, 6, 6, 4, device=device)
    with torch.no_grad():
        logits = AutocastInferer(SimpleInferer(), precision)(images, network)
        expected = network(images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.02, rtol=0.02)


def test_the_network_sees_the_precision_and_the_layout(device):
    seen = {}

    def network(images: torch.Tensor) -> torch.Tensor:
        seen["layout"] = images.is_contiguous(memory_format=torch.channels_last_3d)
        seen["dtype"] = torch.get_autocast_dtype(images.device.type)
        seen["on"] = torch.is_autocast_enabled(images.device.type)
        return images

    AutocastInferer(SimpleInferer())(torch.rand(1, 2, 4, 4, 4, device=device), network)
    assert seen == {"layout": True, "dtype": torch.bfloat16, "on": True}


def test_extra_arguments_reach_the_network(device):
    inferer = AutocastInferer(SimpleInferer(), "fp32")
    images = torch.ones(1, 1, 2, 2, device=device)
    scaled = inferer(images, lambda inputs, *, factor: inputs * factor, factor=3.0)
    assert torch.equal(scaled, images * 3)
