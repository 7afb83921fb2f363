import hashlib
import json
import shutil

import pytest
import torch

from grata_monai.adapt.recipe import CLINICAL
from grata_monai.core.errors import BundleError, DatasetError
from tools.compliance.card import read_bundle, read_limits, render_facts, render_light
from tools.compliance.scores import SCORES_FROM, Score, read_scores


@pytest.fixture(scope="module")
def facts(repository) -> dict[str, str]:
    lines = render_facts(repository).splitlines()[2:]
    return dict(line.strip("| ").split(" | ", 1) for line in lines)


def test_the_facts_are_those_of_the_metadata(facts, repository):
    about = json.loads((repository / "bundle" / "configs" / "metadata.json").read_text())
    assert facts["task"] == about["task"]
    assert facts["intended use"] == about["intended_use"]
    assert facts["trained on"] == about["data_source"]
    assert f"torch {about['pytorch_version']}" in facts["tested with"]
    assert "SCT 41216001" in facts["output"]


def test_the_weights_are_counted_once_though_the_file_names_some_twice(facts, repository):
    path = repository / "bundle" / "models" / "model.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    once = {(t.untyped_storage().data_ptr(), t.storage_offset()): t.numel() for t in state.values()}
    assert f"{sum(once.values()):,} weights" in facts["network"]
    assert sum(t.numel() for t in state.values()) > sum(once.values())


def test_what_moves_are_scale_and_shift_of_every_channel_of_every_layer(facts, repository):
    bundle = read_bundle(repository / "bundle")
    filters = bundle.config["network_def"]["filters"]
    # two layers per block; as many blocks down as filters, one less up
    channels = 2 * sum(filters) + 2 * sum(filters[:-1])
    assert facts["moves"] == f"norm: {2 * channels:,} weights of a copy"


def test_the_hashes_are_those_of_the_files(facts, repository):
    for name in ("models/model.pt", "configs/inference.json"):
        digest = hashlib.sha256((repository / "bundle" / name).read_bytes()).hexdigest()
        assert facts[f"SHA-256 of `{name}`"] == f"`{digest}`"


def test_a_change_of_the_configuration_changes_the_card(repository, tmp_path):
    shutil.copytree(repository / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / "configs" / "inference.json"
    path.write_text(path.read_text().replace('"overlap": 0.25', '"overlap": 0.5'))
    assert "overlap of 0.5" in render_facts(tmp_path)


def test_the_light_changes_where_the_recipe_says(repository):
    table = render_light(repository)
    assert f"| red | below {CLINICAL.guard.source_below:g} | source |" in table
    assert f"| red | {CLINICAL.guard.source_below:g} to {CLINICAL.guard.red_below:g} |" in table
    assert f"| amber | {CLINICAL.guard.red_below:g} to {CLINICAL.guard.amber_below:g} |" in table
    assert f"| green | {CLINICAL.guard.amber_below:g} or more |" in table


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"must hold configs/inference.json"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("configs/metadata.json", r"'metadata\.json' is not \(FileNotFoundError\)"),
        ("models/model.pt", r"must have a readable model\.pt, it has not: No such file"),
    ],
)
def test_a_bundle_that_lacks_a_file_is_refused(name, message, repository, tmp_path):
    shutil.copytree(repository / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle" / name).unlink()
    with pytest.raises(BundleError, match=message):
        read_bundle(tmp_path / "bundle")


def test_limits_are_the_points_under_their_heading(tmp_path):
    (tmp_path / "bundle" / "docs").mkdir(parents=True)
    (tmp_path / "bundle" / "docs" / "README.md").write_text(
        "# A\n\n- no limit\n\n## Limits\n\n- first,\n  on two lines\n- second\n\n## Cite\n\n- not\n"
    )
    assert read_limits(tmp_path) == ["first, on two lines", "second"]


def _measured(tmp_path, cell):
    path = tmp_path / SCORES_FROM
    path.parent.mkdir(parents=True)
    path.write_text(
        f"| centre | cases | source | `new` |\n|---|---|---|---|\n| N | 4 | .7 | {cell} |\n"
    )
    return tmp_path


def test_scores_are_read_cell_by_cell(tmp_path):
    assert read_scores(_measured(tmp_path, "**.838** (0 / 4)")) == [
        Score("N", "4", "source", ".7", ""),
        Score("N", "4", "new", ".838", "0 / 4"),
    ]


def test_a_cell_without_a_score_is_refused(tmp_path):
    with pytest.raises(
        DatasetError, match=r"must begin with a Dice such as \.838, 'soon' does not"
    ):
        read_scores(_measured(tmp_path, "soon"))
