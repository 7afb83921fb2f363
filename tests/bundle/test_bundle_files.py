"""The bundle's files: what MONAI's zoo and a careful hospital ask of them."""

import configparser
import copy
import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out
from monai.utils import set_determinism

from grata_monai import CLINICAL
from grata_monai.adapt.profile import SourceProfile

REQUIRED = (
    "schema",
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
)
REQUIRED_PER_TENSOR = (
    "type",
    "format",
    "num_channels",
    "spatial_shape",
    "dtype",
    "value_range",
    "is_patch_data",
    "channel_def",
)
LARGEST_FILE = 25 * 2**20  # bytes; the zoo's limit


@pytest.fixture(scope="module")
def metadata(bundle) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


@pytest.fixture
def network(bundle) -> torch.nn.Module:
    config = ConfigParser.load_config_file(bundle / "configs" / "inference.json")
    return ConfigParser(config).get_parsed_content("network_def")


def files(bundle: Path) -> list[Path]:
    """Every file that is delivered; runs without output_dir leave others there."""
    folders = ("configs", "docs", "models")
    found = [path for folder in folders for path in (bundle / folder).rglob("*") if path.is_file()]
    return [*found, *(path for path in bundle.iterdir() if path.is_file())]


@pytest.mark.parametrize("field", REQUIRED)
def test_the_metadata_have_the_field(field, metadata):
    assert metadata[field]


@pytest.mark.parametrize("direction", ["inputs", "outputs"])
def test_every_tensor_is_described(direction, metadata):
    for tensor in metadata["network_data_format"][direction].values():
        assert set(REQUIRED_PER_TENSOR) <= set(tensor)
        assert len(tensor["channel_def"]) == tensor["num_channels"]


def test_the_version_is_in_its_changelog(metadata):
    assert metadata["version"] in metadata["changelog"]


def test_what_the_zoo_asks_for_is_there(bundle):
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt"):
        assert (bundle / name).is_file()
    # MONAI Label offers every .pt
    assert {path.name for path in (bundle / "models").iterdir()} == {"model.pt", "profile.json"}


def test_the_profile_is_that_of_the_weights_and_predicts_quality(bundle):
    profile = SourceProfile.read(bundle / "models" / "profile.json")
    assert profile.weights == CLINICAL.guard.calibrated_for
    assert profile.is_fitted
    assert profile.organ is not None
    assert profile.cases == 26
    assert profile.home_lower > profile.useful_above  # a case at home can be green
    assert (bundle / "models" / "profile.json").stat().st_size < 2e6


def test_the_bundle_is_data_only_and_every_file_small(bundle):
    for path in files(bundle):
        assert path.suffix not in (".py", ".pyc", ".so", ".pkl", ".ts", ".sh")
        assert path.stat().st_size < LARGEST_FILE


def test_no_configuration_names_a_download(bundle):
    for path in (bundle / "configs").glob("*.json"):
        words = ("http", "download", "urllib", "requests", "hf_hub")
        is_described = path.name == "metadata.json"  # its schema and references have addresses
        assert is_described or not any(word in path.read_text() for word in words)


def test_the_weights_fit_the_network_strictly(bundle, network):
    state = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(state, strict=True)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def test_the_network_maps_what_the_metadata_say(bundle, metadata, network):
    configs = bundle / "configs"
    verify_net_in_out(
        "network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
    )
    parts = metadata["network_data_format"]
    image, pred = parts["inputs"]["image"], parts["outputs"]["pred"]
    with torch.no_grad():
        logits = network.eval()(torch.rand(1, image["num_channels"], *image["spatial_shape"]))
    assert logits.shape == (1, pred["num_channels"], *pred["spatial_shape"])


def test_the_window_is_the_one_that_the_metadata_describe(bundle, metadata):
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    shape = metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert config["roi_size"] == shape


def test_the_logging_configuration_uses_logging_classes_only(bundle):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(bundle / "configs" / "logging.conf")
    handlers = [s for s in parser.sections() if s.startswith("handler_")]
    assert {parser[s]["class"] for s in handlers} == {"StreamHandler"}
    assert {parser[s]["args"] for s in handlers} <= {"(sys.stderr,)", "(sys.stdout,)"}
    formatters = [s for s in parser.sections() if s.startswith("formatter_")]
    assert not any("class" in parser[s] for s in formatters)


# ------------------------------------------------------------------------------- training


@pytest.fixture
def determinism():
    """Take back what the training configuration sets for the whole process."""
    yield
    set_determinism(None)


@pytest.fixture
def training(bundle, tmp_path, render, save, determinism) -> dict:
    """Overrides that train on three tiny cases for one epoch."""
    for seed, centre in enumerate(["RUNMC", "UCL", "UCL"]):
        case = render(seed)
        for kind, voxels in (("images", case.image), ("labels", case.label)):
            save(voxels, case.affine_ras, tmp_path / centre / kind / f"case{seed}.nii.gz")
    return {
        "dataset_dir": str(tmp_path),
        "output_dir": str(tmp_path / "training"),
        "max_epochs": 1,
        "validate_every": 1,
        "held_back": 1,
        "phantoms": 0,
        "num_workers": 0,
        "precision": "fp32",
        "roi_size": [32, 32, 8],
        "crop_size": [40, 40, 8],
        "patch_size": [32, 32, 8],
    }


def test_the_training_configuration_prepares_and_augments_its_cases(training, open_bundle):
    workflow = open_bundle("train", run_id="train", **training)
    real, held_back = workflow.parser.get_parsed_content("split")
    assert (len(real), len(held_back)) == (2, 1)
    batch = next(iter(workflow.parser.get_parsed_content("training#loader")))
    assert batch["image"].shape == batch["label"].shape == (2, 1, 32, 32, 8)
    assert 0 <= float(batch["image"].min()) < float(batch["image"].max()) <= 1
    assert set(batch["label"].unique().tolist()) <= {0, 1}


@pytest.mark.slow
def test_training_ends_with_weights_that_inference_loads(
    training, tmp_path, run_bundle, render, save
):
    run_bundle("train", run_id="train", **training)
    weights = tmp_path / "training" / "model.pt"
    assert weights.is_file()
    case = render()
    path = save(case.image, case.affine_ras, tmp_path / "a.nii.gz")
    out = tmp_path / "out"
    run_bundle(
        "source_only",
        dataset_dir=str(path),
        output_dir=str(out),
        **{"network#weights": str(weights)},
    )
    assert (out / "a_seg.nii.gz").is_file()


def test_training_has_no_heads_unless_it_is_asked_for_them(training, open_bundle):
    network = open_bundle("train", run_id="train", **training).parser.get_parsed_content(
        "training#network"
    )
    assert type(network).__name__ == "DynUNet"


@pytest.mark.slow
def test_training_with_heads_ends_with_weights_that_the_overlay_loads(
    training, tmp_path, open_bundle
):
    heads = ["denoising", "rotation"]
    workflow = open_bundle("train", run_id="train", **training, heads=heads)
    before = [
        copy.deepcopy(head.state_dict())
        for head in workflow.parser.get_parsed_content("training#network").heads.values()
    ]
    workflow.run()
    trained = workflow.parser.get_parsed_content("training#network").heads.values()
    for old, head in zip(before, trained, strict=True):
        assert any(not torch.equal(old[key], value) for key, value in head.state_dict().items())
    weights = tmp_path / "training" / "model.pt"
    network = open_bundle("heads", **{"network#weights": str(weights)}).parser.get_parsed_content(
        "network"
    )
    assert network.auxiliary_tasks == set(heads)
    with torch.no_grad():
        assert network(torch.rand(1, 1, 32, 32, 8)).shape == (1, 2, 32, 32, 8)
