"""Read one file of voxels, block by block."""

import zlib
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from grata_monai.core.errors import UnreadableImageError
from grata_monai.read.formats.metaimage import open_metaimage
from grata_monai.read.formats.nifti import open_nifti
from grata_monai.read.formats.nrrd import open_nrrd
from grata_monai.read.formats.stored import SurplusError, iterate_blocks, open_regular

__all__ = ["read_stored"]


def read_stored(request: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    """Read a file as its name says.

    Args:
        request: ``path`` of a file; ``budget``, bytes that its voxels may take.

    Yields:
        First ``dtype``, ``shape``, ``spatial`` and the geometry of `Stored`; then ``block`` by
        block the voxels as they are stored.

    Raises:
        CaseError: If it is refused.
    """
    path, budget = Path(request["path"]), int(request["budget"])
    try:
        yield from _read(path, budget)
    except (EOFError, zlib.error, SurplusError) as error:
        finding = {
            EOFError: "is cut off",
            SurplusError: "holds far more than its header announces",
        }.get(type(error), "is damaged: what is compressed in it does not fit its checksum")
        raise UnreadableImageError(
            f"image must be complete, {path.name!r} {finding}. "
            "Copy it again, or export it as NIfTI."
        ) from error


def _read(path: Path, budget: int) -> Generator[dict[str, Any], None, None]:
    suffix = path.suffix.lower()
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(path))
        if suffix in (".mha", ".mhd"):
            stored = open_metaimage(file, path, budget, stack)
        elif suffix == ".nrrd":
            stored = open_nrrd(file, path, budget, stack)
        else:
            stored = open_nifti(file, path, budget)
        axes = {"shape": list(stored.shape), "spatial": list(stored.spatial)}
        yield {"dtype": stored.dtype, **axes, **stored.geometry}
        for block in iterate_blocks(stored):
            yield {"block": block}
