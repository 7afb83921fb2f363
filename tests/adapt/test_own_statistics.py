"""On a network that nobody calibrated, an image's own statistics count where they are surer."""

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from grata_monai import resolve_recipe
from grata_monai.adapt.episode import run_episode
from grata_monai.adapt.guard import NOTHING_FOUND, keep_own
from grata_monai.adapt.method import Episode
from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.scores import Quality, Selected
from grata_monai.methods.registry import resolve_method

VIEWS = {"base": "clinical", "steps": 0, "search_views": []}
ORGAN = (slice(None), slice(None), slice(4, 12), slice(4, 12), slice(4, 12))


class Ramp(nn.Module):
    """Marks what is bright; of a faint image one half, the other one of its mirror image."""

    def __init__(self, norm=nn.BatchNorm3d, bias=0.0):
        super().__init__()
        self.norm = norm(1)
        self.bias = bias

    def forward(self, images):
        ramp = torch.linspace(-1, 1, images.shape[2]).view(-1, 1, 1)
        foreground = 4 * self.norm(images) + ramp - self.bias
        return torch.cat([-foreground, foreground], 1)


def make_images(contrast):
    """A bright cube, of mean 0 and variance 1 at a contrast of 1, as the network knows it."""
    images = torch.zeros(1, 1, 16, 16, 16)
    images[ORGAN] = 1
    return contrast * (images - images.mean()) / images.std(correction=0)


def run(network, images, **recipe):
    resolved = resolve_recipe({**VIEWS, **recipe})
    return run_episode(
        network.eval(),
        Episode(
            images=images,
            method=resolve_method("grata", resolved),
            recipe=resolved,
            predict=SimpleInferer(),
            inferer=SimpleInferer(),
        ),
    )


def test_a_foreign_image_is_seen_on_its_own_statistics():
    network = Ramp()
    found = run(network, make_images(0.01))
    assert torch.equal(found.logits.argmax(1)[0] > 0, make_images(1.0)[0, 0] > 0)
    assert found.decision.selected is Selected.MIRRORED
    assert "on its own statistics, which agree to 1.00; magnified views" in found.decision.reason
    assert found.decision.quality is Quality.AMBER  # nobody calibrated
    assert (found.image_statistics, found.image_share) == (("norm",), 1.0)
    assert found.is_adapted
    assert found.weights_after == found.weights_restored == hash_weights(network)
    assert torch.equal(network.norm.running_mean, torch.zeros(1))


@pytest.mark.parametrize(
    ("norm", "contrast", "recipe"),
    [
        (nn.BatchNorm3d, 1.0, {}),  # no surer: a case like those of training
        (nn.InstanceNorm3d, 0.01, {}),  # has no statistics of training
        (nn.BatchNorm3d, 0.01, {"calibrated_for": None, "mirror_margin": 0.01}),
        (nn.BatchNorm3d, 0.01, {"guard": False}),
        (nn.BatchNorm3d, 0.01, {"image_share": 0.3}),  # somebody has chosen
    ],
)
def test_else_the_statistics_stay(norm, contrast, recipe):
    found = run(Ramp(norm), make_images(contrast), **recipe)
    assert found.own_statistics == ()
    assert "own statistics" not in found.decision.reason


def test_an_organ_that_the_source_did_not_find_is_handed_on_too():
    found = run(Ramp(bias=1.5), make_images(0.01))
    assert not (found.source.logits.argmax(1) > 0).any()
    assert torch.equal(found.logits.argmax(1)[0] > 0, make_images(1.0)[0, 0] > 0)
    assert found.decision.reason.startswith("averaged mirrored predictions")
    assert "the network found nothing" in found.decision.reason


@pytest.mark.parametrize(
    ("agreement", "overlap", "light"),
    [
        (0.92, 0.64, Quality.RED),
        (0.93, 0.0, Quality.GREEN),
        (0.5, 0.65, Quality.GREEN),
    ],
)
def test_a_mask_elsewhere_must_be_agreed_on(agreement, overlap, light):
    found = keep_own(NOTHING_FOUND, agreement, overlap, 0.93)
    assert (found.quality, found.selected) == (light, Selected.MIRRORED)
