"""The application of MONAI Deploy in its own environment, for tests that compare hosts."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import SeriesOptions, write_series

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv-deploy" / "bin" / "python"
NOT_INSTALLED = "no .venv-deploy; run `make deploy-env`"
SECONDS = 600  # a run that hangs ends


def is_installed() -> bool:
    """Whether `make deploy-env` has made the environment."""
    return PYTHON.exists() and (PYTHON.parents[1] / ".installed").exists()


def write_tree(folder: Path) -> None:
    """Write two good series of different studies, and one that lacks a slice between them."""
    case = make_case(3, spacing=(2.4, 2.4, 6.0), spatial_shape=(48, 48, 8))
    for seed, name in enumerate(("good", "incomplete", "other")):
        options = SeriesOptions(seed=seed)
        files = write_series(folder / name, case.image, case.affine_ras, options=options)
        if name == "incomplete":
            files[3].unlink()


@dataclass(frozen=True)
class Done:
    """What a run left behind.

    Attributes:
        status: Exit status.
        out: Its report.
        err: Its log and errors.
        folder: Where results are.
    """

    status: int
    out: str
    err: str
    folder: Path

    @property
    def cases(self) -> list[Path]:
        """The folders of the segmented volumes, in order of their names."""
        return sorted(path.parent for path in self.folder.glob("*/segmentation.dcm"))


def run_deploy(
    input_dir: Path,
    output_dir: Path,
    *,
    settings: Mapping[str, object] | None = None,
    arguments: Sequence[str] = (),
    bundle_dir: Path = REPOSITORY / "bundle",
) -> Done:
    """Run ``python -m grata_monai deploy`` over one folder.

    Args:
        input_dir: DICOM files.
        output_dir: For the results.
        settings: Ids of the configuration; values as JSON or text.
        arguments: Further options.
        bundle_dir: Root of the bundle.
    """
    options = [f"--set={key}={value}" for key, value in (settings or {}).items()]
    command = ["-m", "grata_monai", "deploy", str(input_dir), str(output_dir)]
    return run_python(
        [*command, "--model", str(bundle_dir), *options, *arguments], output_dir=output_dir
    )


def run_python(
    arguments: Sequence[str],
    *,
    output_dir: Path,
    variables: Mapping[str, str] | None = None,
    cwd: Path = REPOSITORY,
) -> Done:
    """Run the environment's Python.

    Args:
        arguments: After ``python``.
        output_dir: Where results are expected.
        variables: Of the environment, beside those of this process.
        cwd: The folder to start in.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HOLOSCAN_")}
    done = subprocess.run(
        [str(PYTHON), *arguments],
        cwd=cwd,
        env={**kept, "OMP_NUM_THREADS": "1", **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    return Done(done.returncode, done.stdout, done.stderr, output_dir)
