"""Run the cases of a folder that are not done yet, and go on where an earlier run was stopped.

A case is done if its outputs are whole and its record names what they were made from: the image's
bytes, the weights, the recipe, everything else in the configuration, and the versions that compute.
What is made after the outputs, such as a page, leaves a note that names the same: a case whose run
was killed in between is done again.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ignite.engine import Engine, Events
from torch import nn

from grata_monai.adapt.network import hash_weights
from grata_monai.core.errors import CaseError
from grata_monai.core.failures import list_failures
from grata_monai.core.files import Typed, as_path
from grata_monai.inferer import GraTaInferer
from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.read.formats.stored import open_beside, open_regular
from grata_monai.read.outputs import (
    RECORD,
    RECORD_ENDING,
    REPORT_FOLDER,
    is_regular,
    list_masks,
    list_objects,
    read_json,
    read_written,
)
from grata_monai.record.environment import versions
from grata_monai.write.commit import RUN_WAIT_SECONDS, claim, discard
from grata_monai.write.image import hash_labels

__all__ = ["list_pending", "run_cases"]

logger = logging.getLogger(__name__)

HEAD_BYTES = 2**16
DETACHED = re.compile(rb"^(?:ElementDataFile\s*=|data ?file\s*:=?)\s*(.*?)\s*$", re.I | re.M)


def list_pending(  # noqa: PLR0913  # lines of a configuration
    cases: Sequence[Mapping[str, Any]],
    *,
    output_dir: Typed,
    inferer: GraTaInferer,
    network: nn.Module,
    settings: str = "",
    volumes: Sequence[DicomVolume] = (),
    again: bool = False,
    has_reports: bool = False,
    notes: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """List the cases that are not done yet, after putting right what a killed run left.

    Args:
        cases: All, as `list_cases` or `list_volumes` give them; ``images`` if of several.
        output_dir: Where their outputs go.
        inferer: How they are predicted.
        network: With its weights.
        settings: Names the rest of the configuration, see `hash_configuration`.
        volumes: Of DICOM cases, whose images they are.
        again: Whether to do again what is done. With an inferer's memory all cases are done again,
            as each depends on those before it.
        has_reports: Whether a case has a page, whose line of the index is its note.
        notes: JSON files in the output folder, with ``{case}`` in their names, that further
            handlers write last.

    Returns:
        The cases, each with ``made_from``, which the writer puts into its record.

    Raises:
        OutputError: If the folder is there but cannot be written, or another process writes there.
    """
    folder = as_path(output_dir, name="output_dir")
    if folder.is_dir():
        with claim(folder, wait_seconds=RUN_WAIT_SECONDS):
            pass
    files = {volume.name: [frame.file for frame in volume.frames] for volume in volumes}
    common = [json.dumps(versions()), settings, inferer.recipe.digest, hash_weights(network)]
    named = []
    for case in cases:
        given = case.get("images") or [case["image"]]
        image = _hash_files(files.get(case["case"]) or [Path(path) for path in given])
        key = hashlib.sha256(" ".join([*common, image]).encode()).hexdigest() if image else ""
        named.append({**case, "made_from": key})
    if again or inferer.memory is not None:
        return named
    notes = [*notes, *([f"{REPORT_FOLDER}/{{case}}.json"] if has_reports else [])]
    pending = [
        case for case in named if not _is_done(folder, case["case"], case["made_from"], notes)
    ]
    if len(pending) < len(named):
        done = len(named) - len(pending)
        logger.info("%d of %d cases were done already", done, len(named))
    return pending


def run_cases(
    engine: Engine,
    *,
    cases: Sequence[Any],
    pending: Sequence[Any],
    output_dir: Typed,
    alone: bool = True,
) -> None:
    """Run an evaluator over what is not done, alone in its output folder.

    A case that fails loses the outputs of an earlier run, which would pass for its own.

    Args:
        engine: A MONAI evaluator over `pending`.
        cases: All.
        pending: By `list_pending`.
        output_dir: Made if missing.
        alone: Whether the folder is held for the whole run; else for each case while it is written,
            by several workers of one run, each with cases of its own.

    Raises:
        OutputError: If the folder cannot be written, or another process writes there.
        KeyboardInterrupt: As it came, saying how far the run has got.
    """
    finished = len(cases) - len(pending)
    held = claim(output_dir, wait_seconds=RUN_WAIT_SECONDS)
    with held if alone else nullcontext(as_path(output_dir, name="output_dir")) as folder:

        def note(engine: Engine) -> None:
            nonlocal finished
            failed = {failure.case for failure in list_failures(engine)}
            finished = len(cases) - len(pending) + engine.state.iteration - len(failed)
            if failed:
                with claim(folder):
                    for case in failed:
                        discard(folder, case)

        with engine.add_event_handler(Events.ITERATION_COMPLETED, note):
            try:
                if pending:
                    engine.run()
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(
                    f"{finished} of {len(cases)} cases are done. The same command goes on with "
                    "the others."
                ) from error


def _hash_files(files: Sequence[Path]) -> str:
    """SHA-256 of an image's files; empty if one cannot be read, which the reader will explain."""
    digest = hashlib.sha256()
    try:
        for file in dict.fromkeys(files):
            digest.update(_hash_file(file))
            if file.suffix.lower() in (".mhd", ".mha", ".nrrd"):
                digest.update(_hash_detached(file))
    except (CaseError, OSError):
        return ""
    return digest.hexdigest()


def _hash_file(path: Path) -> bytes:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]  # has readinto


def _hash_detached(header: Path) -> bytes:
    """SHA-256 of the file in which a header says that its voxels are; nothing if in its own."""
    with open_regular(header) as file:
        found = DETACHED.search(file.read(HEAD_BYTES))
    name = found[1].decode(errors="replace") if found else "LOCAL"
    if name.upper() == "LOCAL":
        return b""
    with open_beside(header, name) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _is_done(folder: Path, case: str, made_from: str, notes: Sequence[str]) -> bool:
    """Whether all that a record names is there, and it and the notes were made from this."""
    record = folder / f"{case}{RECORD_ENDING}"
    files = [folder / note.replace("{case}", case) for note in notes]
    if not made_from or any(read_json(file).get("made_from") != made_from for file in files):
        return False
    if read_written(folder / case / RECORD, "dicom").get("made_from") == made_from:
        return bool(list_objects(folder / case))
    if read_written(record, "output").get("made_from") != made_from:
        return False
    return all(_hash_mask(folder / name) == digest for name, digest in list_masks([record]).items())


def _hash_mask(path: Path) -> str:
    """SHA-256 of a mask's voxels; empty if they cannot be read."""
    if not is_regular(path):
        return ""
    try:
        return hash_labels(np.asarray(nib.Nifti1Image.from_filename(path).dataobj))
    except Exception:  # whatever a damaged file makes its reader raise
        logger.debug("a mask of an earlier run cannot be read", exc_info=True)
        return ""
