"""The maps for a reader are the source's labels and each magnification's bit."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from grata_monai import resolve_recipe
from grata_monai.adapt.guard import Decision
from grata_monai.adapt.localise import LocalisedOrgan
from grata_monai.adapt.multiscale import MultiscalePrediction
from grata_monai.adapt.result import EpisodeResult, SourcePrediction
from grata_monai.adapt.scores import Selected
from grata_monai.record.maps import make_maps


def organ(bit: int) -> LocalisedOrgan:
    maps = torch.zeros(1, 2, 6, 4)
    marked = torch.full((1, 1, 6, 4), bit, dtype=torch.uint8)
    return LocalisedOrgan(maps, prediction=MultiscalePrediction(maps, maps[:, :1], (), (), marked))


@pytest.fixture
def result() -> EpisodeResult:
    """The source marks four voxels of one piece and a single one far away."""
    logits = torch.zeros(1, 2, 6, 4)
    logits[:, 1] = -1
    logits[:, 1, :2, :2] = 1
    logits[:, 1, 5, 3] = 1
    source = SourcePrediction(logits, "softmax", "a" * 64, nn.Identity(), 0.1)
    fields = {"organ": organ(0b01), "after": organ(0b10)}
    return EpisodeResult(source, logits, resolve_recipe("clinical"), "grata", **fields)


@pytest.mark.parametrize(("single_piece", "voxels"), [(True, 4), (False, 5)])
def test_the_source_is_shown_as_postprocessing_would_keep_it(single_piece, voxels, result):
    maps = make_maps(result, single_piece=single_piece)
    assert (maps.dtype, tuple(maps.shape)) == (torch.uint8, (1, 2, 6, 4))
    assert int(maps[:, 0].sum()) == voxels


@pytest.mark.parametrize(
    ("selected", "bit"), [(Selected.ADAPTED, 0b10), (Selected.VIEWS, 0b01), (Selected.SOURCE, 0b01)]
)
def test_magnifications_are_those_of_the_prediction_that_was_kept(selected, bit, result):
    decided = replace(result, decision=Decision(selected=selected))
    assert set(make_maps(decided, single_piece=True)[:, 1].unique().tolist()) == {bit}


def test_without_magnifications_nothing_is_marked(result):
    assert (
        int(make_maps(replace(result, organ=None, after=None), single_piece=True)[:, 1].max()) == 0
    )


def test_channels_of_a_sigmoid_network_are_numbered_from_one(result):
    logits = torch.full((1, 2, 6, 4), -1.0)
    logits[:, 0, 0] = 1
    logits[:, 1, :2] = 1
    source = replace(result.source, logits=logits, activation="sigmoid")
    labels = make_maps(replace(result, source=source), single_piece=False)[0, 0]
    assert labels[:, 0].tolist() == [1, 2, 0, 0, 0, 0]
