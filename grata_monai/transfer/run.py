"""Fetch before a bundle's run, send after it: steps of the dicom overlay."""

from typing import Any

from ignite.engine import Engine

from grata_monai.bundle.workflow import check_running_bundle
from grata_monai.core.files import Typed, as_path
from grata_monai.read.dicom.triage import Triage
from grata_monai.transfer.exchange import SendReport, fetch, send
from grata_monai.transfer.security import Security
from grata_monai.transfer.temporary import make_private_folder

__all__ = ["fetch_dataset", "send_results"]


def fetch_dataset(
    dataset_dir: str | None, *, source: str | None = None, security: Security | None = None
) -> str | None:
    """Fetch what shall be segmented, if a source is given.

    What was fetched lies in a private temporary folder until the process ends, by a signal too.

    Args:
        dataset_dir: Where the files are if there is no source.
        source: A DICOMweb address with study and series; None passes `dataset_dir` on.
        security: Certificates and credentials.

    Returns:
        The folder.

    Raises:
        ValueError: If both are given, or the address breaks a rule.
        TransferError: If the peer cannot be reached, refuses, or sends too much.
        BundleError: If the address is the running bundle's own, not the operator's.
    """
    if source is None:
        return dataset_dir
    check_running_bundle()
    if dataset_dir is not None:
        raise ValueError("source and dataset_dir must not both be given, got both. Leave one out.")
    folder = make_private_folder() / "fetched"
    fetch(source, folder, security=security or Security())
    return str(folder)


def send_results(
    engine: Engine,
    found: Triage,
    *,
    output_dir: Typed,
    destination: str | None = None,
    security: Security | None = None,
) -> SendReport | None:
    """Send the objects of every segmented volume, if a destination is given.

    Args:
        engine: The evaluator, after its run.
        found: By `triage`.
        output_dir: Where the volumes' folders are.
        destination: Address of the peer; None sends nothing.
        security: Certificates and credentials.

    Returns:
        What became of them; None if there was nothing to do.

    Raises:
        ValueError: If the address breaks a rule.
        TransferError: If the peer cannot be reached, or refuses an instance.
        BundleError: If the address is the running bundle's own, not the operator's.
    """
    state: Any = engine.state
    failed = {failure.case for failure in getattr(state, "failures", ())}
    root = as_path(output_dir, name="output_dir")
    folders = [root / v.name for v in found.volumes if v.name not in failed]
    if destination is None or not folders:
        return None
    check_running_bundle()
    return send(folders, destination, security=security or Security())
