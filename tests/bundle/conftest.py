"""What the tests of the bundle share: tiny phantoms on disk, and runs in this or a new process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from grata_monai.phantom import PhantomCase, make_case

SPACING = (2.4, 2.4, 6.0)
TINY = {"spacing": list(SPACING), "roi_size": [48, 48, 8], "report": False}
ONE_STEP = {
    "base": "clinical",
    "steps": 1,
    "windows": 1,
    "weak_views": ["identity"],
    "prediction_views": ["identity"],
    "min_cosine": None,
    "focus_views": [],
}


@pytest.fixture(autouse=True)
def process_state(monkeypatch):
    """Take back what MONAI's workflow and the bundle change for the rest of the process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture(scope="session")
def bundle(repository) -> Path:
    return repository / "bundle"


@pytest.fixture(scope="session")
def one_step() -> dict[str, Any]:
    """The cheapest recipe that moves weights."""
    return ONE_STEP


@pytest.fixture(scope="session")
def render() -> Callable[..., PhantomCase]:
    """Make a phantom; 48 × 48 × 8 voxels are one window of the network in `TINY`."""

    def render(seed: int = 3, **settings: Any) -> PhantomCase:
        return make_case(seed, **{"spacing": SPACING, "spatial_shape": (48, 48, 8), **settings})

    return render


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """Write voxels as NIfTI."""

    def save(voxels: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nifti = nib.Nifti1Image(voxels, affine)
        nifti.set_sform(affine, code=1)
        nib.save(nifti, path)
        return path

    return save


@pytest.fixture
def open_bundle(bundle) -> Callable[..., ConfigWorkflow]:
    """Parse the bundle's configurations in this process, ready to run."""

    def open_bundle(
        *overlays: str,
        run_id: str = "inference",
        configs: str | Path = bundle / "configs",
        **overrides: Any,
    ) -> ConfigWorkflow:
        workflow = ConfigWorkflow(
            [str(Path(configs) / f"{name}.json") for name in ("inference", *overlays)],
            workflow_type="infer",
            run_id=run_id,
            logging_file=False,
            **{**TINY, **overrides},
        )
        workflow.initialize()
        return workflow

    return open_bundle


@pytest.fixture
def run_bundle(open_bundle) -> Callable[..., ConfigWorkflow]:
    """Run the bundle in this process."""

    def run(*overlays: str, **overrides: Any) -> ConfigWorkflow:
        workflow = open_bundle(*overlays, **overrides)
        workflow.run()
        return workflow

    return run


@pytest.fixture
def refusal(run_bundle, capsys) -> Callable[..., str]:
    """Run a bundle that must end with an error, and return what the process would say last."""

    def refusal(*overlays: str, **overrides: Any) -> str:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # the hook tells them apart
            run_bundle(*overlays, **overrides)
        capsys.readouterr()
        sys.excepthook(caught.type, caught.value, caught.tb)
        return capsys.readouterr().err

    return refusal


@pytest.fixture
def run_process(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m monai.bundle run`` as users do, from a folder of the test's own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        tiny = [f"--{key}={value}" for key, value in TINY.items()]
        return subprocess.run(
            [sys.executable, "-m", "monai.bundle", "run", *arguments, *tiny],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
