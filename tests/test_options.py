"""Options travel with the image, and hold for that case alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet

from grata_monai import CLINICAL, PAPER, GraTaInferer, Record, resolve_recipe
from grata_monai.adapt.network import hash_state
from grata_monai.core.errors import RecipeError, WeightsError
from grata_monai.options import OPTIONS_KEY, CaseOptions, read_options

DEFAULT = CaseOptions(CLINICAL)
SOURCE = CaseOptions(resolve_recipe("source"))


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(3, 1, 2, (4, 8), (2,), norm="batch").eval()


def image(options=None, cases=1) -> MetaTensor:
    meta = {} if options is None else {OPTIONS_KEY: options}
    return MetaTensor(torch.rand(cases, 1, 16, 16, 8), meta=meta)


def test_options_survive_json():
    options = CaseOptions(CLINICAL.changed(guard=False, time_limit_s=2.0), weights_sha256="0" * 64)
    assert CaseOptions.from_json(options.to_json()) == options


def test_what_an_image_says_overrides_what_the_inferer_was_built_with(network):
    inferer = GraTaInferer(SlidingWindowInferer((16, 16, 8)), "clinical")
    plain = Record.from_json(inferer(image(), network).meta["grata"])
    asked = Record.from_json(inferer(image(SOURCE.to_json()), network).meta["grata"])
    again = Record.from_json(inferer(image(), network).meta["grata"])
    names = [record.recipe["name"] for record in (plain, asked, again)]
    assert names == ["clinical", "source", "clinical"]


def test_every_case_of_a_batch_has_its_own():
    texts = [SOURCE.to_json(), CaseOptions(PAPER).to_json()]
    assert read_options(image(texts, 2), DEFAULT) == [SOURCE, CaseOptions(PAPER)]
    assert read_options(image(texts[0], 2), DEFAULT) == [SOURCE, SOURCE]
    assert read_options(image(None, 2), DEFAULT) == [DEFAULT, DEFAULT]
    assert read_options(torch.zeros(1, 1, 2, 2, 2), DEFAULT) == [DEFAULT]


def test_a_wrong_setting_is_refused():
    with pytest.raises(RecipeError, match="recipe must be among"):
        read_options(image('{"recipe": "clinicl"}'), DEFAULT)


def test_a_network_that_its_host_loaded_is_checked_and_laid_out_as_we_do(network):
    digest = hash_state(dict(sorted(network.state_dict().items())))
    adopted = replace(SOURCE, weights_sha256=digest).verify_weights(network)
    weights = [m.weight for m in adopted.modules() if isinstance(m, torch.nn.Conv3d)]
    assert adopted is not network
    assert all(w.is_contiguous(memory_format=torch.channels_last_3d) for w in weights)
    assert SOURCE.verify_weights(network) is network
    with torch.no_grad():
        next(network.parameters()).add_(1e-3)
    with pytest.raises(WeightsError, match="must hold the weights of the bundle"):
        replace(SOURCE, weights_sha256=digest).verify_weights(network)


def test_two_threads_with_other_options_share_an_inferer_and_a_network(network):
    inferer = GraTaInferer(SlidingWindowInferer((16, 16, 8)), "clinical")
    torch.manual_seed(1)
    plain = image()
    asked = [plain.clone() for _ in range(4)]
    for number in (1, 3):
        asked[number].meta[OPTIONS_KEY] = SOURCE.to_json()
    alone = [inferer(one, network) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        both = list(pool.map(lambda one: inferer(one, network), asked))
    for one, other in zip(alone, both, strict=True):
        assert torch.equal(one.as_tensor(), other.as_tensor())
        digests = {Record.from_json(pred.meta["grata"]).digest for pred in (one, other)}
        assert len(digests) == 1
    assert not torch.equal(alone[0].as_tensor(), alone[1].as_tensor())
