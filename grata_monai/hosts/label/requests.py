"""Check what a client of MONAI Label asks for, once that has read it: image, settings, file."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grata_monai.core.errors import DatasetError, RecipeError
from grata_monai.hosts.label.answer import WRITABLE
from grata_monai.hosts.label.options import NAMES

__all__ = [
    "check_image",
    "check_info",
    "check_model",
    "check_no_link",
    "check_parameters",
    "check_upload",
]

UPLOADS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".dcm")
UNDERSTOOD = """
    _id _image_id annotations background cache_transforms cache_transforms_in_memory
    cache_transforms_ttl color_map description device foreground gpus image image_path label
    label_info label_tag labels largest_cc location logging max_batch_size max_workers model
    model_filename multi_gpu output pixel_spacing points result_compress result_dtype
    result_extension result_tag result_write_to_file roi roi_size save_label session size
    slices sw_batch_size sw_overlap timeout
"""
KNOWN = frozenset(UNDERSTOOD.split()) | {*NAMES}
"""Parameters that MONAI Label, its clients or we understand."""
CHOICES = {
    "result_extension": WRITABLE,
    "result_dtype": ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"),
    "logging": ("INFO", "WARNING", "ERROR"),
}
"""What some of them may be; the first if there is none."""


def check_parameters(request: Mapping[str, Any], shown: Iterable[str] = ()) -> None:
    """Refuse a parameter that nothing reads: a mistyped recipe would adapt with another one.

    Of what MONAI Label makes a file's name, a type of numpy or a level of its log, only choices
    pass.

    Args:
        request: As MONAI Label put it together.
        shown: Names of further settings that the model shows to clients.

    Raises:
        RecipeError: If so; the nearest name or the formats are given.
    """
    for name, choices in CHOICES.items():
        if (request.get(name) or choices[0]) not in choices:
            raise RecipeError(f"{name} must be one of {', '.join(choices)}, it is not.")
    known = KNOWN | {*shown}
    for name in request:
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known), n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Leave it out."
            raise RecipeError(f"a parameter must be known, {str(name)[:40]!r} is not. {hint}")


def check_model(model: Any, models: Iterable[str]) -> None:
    """Refuse a model that this server does not have.

    Raises:
        DatasetError: If so; those that it has are named.
    """
    if model not in (known := sorted(models)):
        raise DatasetError(f"model must be among {', '.join(known)}, it is not. Choose one.")


def check_image(image: Any, ids: Iterable[str], folders: Iterable[Path]) -> None:
    """Refuse an image that is neither one of the studies nor was sent by a client.

    Args:
        image: An id of the datastore, or a path.
        ids: Of the datastore.
        folders: Where a path may lead: studies, sessions, uploads.

    Raises:
        DatasetError: If so; whether a file exists elsewhere is not told.
    """
    if isinstance(image, str) and image in ids:
        return
    if isinstance(image, str) and image:
        path = Path(image).resolve()
        inside = any(path.is_relative_to(one.resolve()) for one in folders)
        if Path(image).is_absolute() and inside and path.exists():
            return
    raise DatasetError(
        "image must be one of the studies, or be sent; this one is neither. /datastore/ lists them."
    )


def check_upload(name: str, file: str | Path) -> None:
    """Refuse a file that is no image by its name, or whose name leads out of its folder.

    Args:
        name: Under which it shall be kept.
        file: That was sent.

    Raises:
        DatasetError: If so.
    """
    is_plain = Path(name).name == name and not name.startswith(".") and "\\" not in name
    if not is_plain or not str(file).lower().endswith(UPLOADS):
        raise DatasetError(
            f"an uploaded image must have a plain name and end in one of {', '.join(UPLOADS)}, it "
            "has not. Rename it."
        )


def check_no_link(folder: Path, name: str) -> None:
    """Refuse to write or remove a file through a link: what it leads to is no study of the server.

    Args:
        folder: Of the file.
        name: Of the image, without its ending.

    Raises:
        DatasetError: If such a link is there.
    """
    entries = folder.iterdir() if folder.is_dir() else ()
    if any(one.is_symlink() and f"{one.name}.".startswith(f"{name}.") for one in entries):
        raise DatasetError(
            "a study that is changed or removed must lie on the server, this one is a link. Its "
            "operator may remove it."
        )


def check_info(info: Any) -> None:
    """Refuse facts of an image that nothing could read any more, for nobody.

    Args:
        info: As a client sent it.

    Raises:
        DatasetError: If it is no JSON object, or its ``strategy`` is none.
    """
    if not isinstance(info or {}, dict) or not isinstance((info or {}).get("strategy", {}), dict):
        raise DatasetError("params and info must be JSON objects, they are not. Send {} for none.")
