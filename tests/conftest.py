"""What every test shares: shape checks, devices, seeds, real cases, Hypothesis' profile.

The import hook comes first: modules of grata_monai imported before it would run unchecked.
"""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

assert "grata_monai" not in sys.modules, "imported before its shape checks were installed"
install_import_hook("grata_monai", "beartype.beartype")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = Path(os.environ.get("GRATA_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
NO_REAL_CASES = f"no real cases in {SHARED_DATA}; set GRATA_SHARED_DATA to a folder that has them"
NO_CUDA = "no CUDA device"

torch.set_num_threads(1)  # tiny volumes: more threads only wait for each other

# No deadline: the speed of a shared machine is no property of the code. Derandomised: the same
# commit always gets the same verdict.
settings.register_profile("grata", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("grata")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine has no data or device for."""
    for item in items:
        if item.get_closest_marker("realdata") and not SHARED_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=NO_REAL_CASES))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=NO_CUDA))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same state of torch's global generator."""
    torch.manual_seed(0)


def _devices() -> list[object]:
    cuda = [pytest.param("cuda", marks=pytest.mark.gpu)] if torch.cuda.is_available() else []
    return ["cpu", *cuda]


@pytest.fixture(scope="session", params=_devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and a CUDA device where there is one."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real cases, for tests marked ``realdata``."""
    if not SHARED_DATA.is_dir():
        pytest.skip(NO_REAL_CASES)
    return SHARED_DATA


@pytest.fixture(scope="session")
def field(shared_data: Path) -> Path:
    """The folder of faulty and odd images from the field, for tests marked ``realdata``."""
    folder = shared_data.parent / "field"
    if not folder.is_dir():
        pytest.skip("no inputs from the field beside the real cases")
    return folder
