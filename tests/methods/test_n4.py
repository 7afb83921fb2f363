"""N4 on phantoms whose bias field is known, and the division by a given field, by hand."""

import numpy as np
import pytest
import SimpleITK
import torch
from method_case import Case, begin, segment
from torch import Tensor
from torch.nn import functional

from grata_monai.core.errors import AdaptationError
from grata_monai.methods.n4 import N4

pytestmark = pytest.mark.slow

SIZE = 16


def make_phantom(dims: int, size: int = SIZE) -> tuple[Tensor, Tensor, Tensor]:
    """A bright ball in a grey one, each nearly uniform; the field e^(.4x − .2y); the labels."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, size)] * dims, indexing="ij")
    radius = torch.stack(axes).norm(dim=0)
    labels = (radius < 0.85).long() + (radius < 0.5).long()
    noise = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0))
    tissue = torch.tensor([0.02, 0.5, 0.9])[labels] + 0.01 * noise
    return tissue[None, None], (0.4 * axes[0] - 0.2 * axes[1]).exp()[None, None], labels


def spy(case: Case) -> tuple[Case, list[Tensor]]:
    """Let a case remember the images that its predictor gets."""
    seen: list[Tensor] = []

    def predict(images: Tensor, network: torch.nn.Module) -> Tensor:
        seen.append(images)
        return network(images)

    return Case(**{**vars(case), "predict": predict}), seen


def spread(image: Tensor, where: Tensor) -> float:
    """Standard deviation over mean."""
    values = image[0, 0][where]
    return float(values.std() / values.mean())


def test_networks_of_every_kind_obey_the_laws(make_network, make_case, check_laws, kind):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    tissue, field, _ = make_phantom(dims, 12)
    case = make_case(network, activation, dims, images=tissue * field)
    found = check_laws(N4(iterations=(5, 5)), network, case)
    assert not torch.allclose(found, case.source, atol=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_field_that_varies_tissues_by_a_tenth_is_removed(dims, make_network, make_case):
    network = make_network(dims)
    tissue, field, labels = make_phantom(dims)
    method = N4(shrink_factor=1)
    case, seen = spy(make_case(network, "softmax", dims, images=tissue * field))
    found = segment(method, case, begin(method, network, "softmax"))
    (corrected,) = seen
    for label in (1, 2):
        assert spread(case.images, labels == label) > 0.08
        assert spread(corrected, labels == label) < 0.01
    with torch.no_grad():
        assert torch.equal(found, network(corrected))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_image_is_divided_by_the_field_and_keeps_its_percentiles(
    dims, make_network, make_case, monkeypatch
):
    tissue, field, _ = make_phantom(dims)
    small = [SIZE // 2] * dims  # 4 would leave fewer than 8 voxels
    mode = {2: "bilinear", 3: "trilinear"}[dims]
    given = []

    def estimate(self: N4, image: np.ndarray) -> np.ndarray:
        given.append(torch.from_numpy(image)[None, None])
        return functional.interpolate(field, small, mode="area").log()[0, 0].numpy()

    monkeypatch.setattr(N4, "_estimate_log_field", estimate)
    network, method = make_network(dims), N4()
    case, seen = spy(make_case(network, "softmax", dims, images=tissue * field))
    segment(method, case, begin(method, network, "softmax"))

    pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[dims]
    torch.testing.assert_close(given[0], pool(case.images, 2))
    log_field = pool(field, 2).log()
    divided = case.images / functional.interpolate(log_field, [SIZE] * dims, mode=mode).exp()
    ends = torch.tensor([0.005, 0.995])
    low, high = divided.flatten().quantile(ends)
    old_low, old_high = case.images.flatten().quantile(ends)
    expected = old_low + (divided - low) * (old_high - old_low) / (high - low)
    expected = expected.clamp(case.images.min(), case.images.max())
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)


def test_n4_as_published():
    """Three images against SimpleITK's filter, with settings of its own."""
    tissue, field, _ = make_phantom(2)
    for image in (tissue * field, tissue / field, tissue * field.square()):
        given = SimpleITK.GetImageFromArray(image[0, 0].numpy())
        n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations([5, 5])
        n4.SetConvergenceThreshold(1e-3)
        n4.SetNumberOfThreads(1)
        mask = SimpleITK.OtsuThreshold(given, 0, 1, 256)
        divided = SimpleITK.GetArrayFromImage(n4.Execute(given, mask))
        low, high = np.percentile(divided, [0.5, 99.5])
        first, last = np.percentile(image.numpy(), [0.5, 99.5])
        expected = (divided - low) / (high - low) * (last - first) + first
        expected = expected.clip(float(image.min()), float(image.max()))
        found = N4(shrink_factor=1, iterations=(5, 5))._correct(image)[0, 0].numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_estimate_is_the_logarithm_of_the_field_up_to_a_constant():
    tissue, field, labels = make_phantom(3)
    log_field = N4()._estimate_log_field((tissue * field)[0, 0].numpy())
    error = (torch.from_numpy(log_field) - field[0, 0].log())[labels > 0]
    assert float(field[0, 0].log()[labels > 0].std()) > 0.15
    assert float(error.std()) < 0.02


def test_channels_are_corrected_each_by_itself_and_an_empty_one_stays():
    tissue, field, _ = make_phantom(2)
    image, empty = tissue * field, torch.zeros_like(tissue)
    method = N4(iterations=(5, 5))
    found = method._correct(torch.cat([image, empty, tissue], 1))
    assert torch.equal(found[:, 1:2], empty)
    for index, alone in ((0, image), (2, tissue)):
        assert torch.equal(found[:, [index]], method._correct(alone))
    assert not torch.allclose(found[:, :1], image, atol=1e-2)


def test_a_volume_of_a_single_slice_is_corrected():
    tissue, field, labels = make_phantom(2)
    image = (tissue * field)[..., None]
    corrected = N4(shrink_factor=1)._correct(image)
    assert corrected.shape == image.shape
    assert spread(corrected[..., 0], labels == 2) < 0.25 * spread(image[..., 0], labels == 2)


def test_negative_intensities_are_refused(make_network, make_case):
    network, method = make_network(), N4()
    case = make_case(network, images=torch.linspace(-0.25, 1, 12**3).view(1, 1, 12, 12, 12))
    with pytest.raises(AdaptationError, match=r"at least 0 for N4, got -0\.25"):
        segment(method, case, begin(method, network, "softmax"))
