"""Say what only the operator may set, and refuse a bundle that sets it: addresses, limits, folders.

A bundle comes from somebody else. Where results go, where they are written, whom to believe, what
is kept secret and what a file may cost is decided by who runs it: on the command line, by settings,
or in a configuration of one's own. So the bundle's own files may hold, under these names, nothing
but what is harmless, or a reference that hands on what the operator said.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grata_monai.bundle.items import (
    CONFIG_SUFFIXES,
    Item,
    find_macro_file,
    is_named_like_a_file,
    iterate_items,
    read_config,
)
from grata_monai.bundle.verify import METADATA, OUTPUT_FOLDERS, walk
from grata_monai.core.errors import BundleError
from grata_monai.core.limits import CASE_SECONDS

__all__ = ["RESERVED", "Known", "authority_problem", "check_authority", "gather"]

Known = Mapping[str, list[Any]]
"""Id, with ``::``, to every value that some configuration file of the bundle gives it."""

RESERVED: Mapping[str, tuple[Any, ...]] = {
    "source": (None,),
    "destination": (None,),
    "security": ({"_target_": "grata_monai.transfer.security.Security"},),
    "limits": (
        {"_target_": "grata_monai.read.dicom.limits.Limits"},
        {"_target_": "grata_monai.read.dicom.limits.Limits", "case_seconds": "@case_seconds"},
    ),
    "case_seconds": (CASE_SECONDS,),
    "phi": ("hash",),
    "allow_refused": (False,),
    "unverified": (False,),
    "verified": (
        {
            "_target_": "grata_monai.bundle.verify_own_bundle",
            "bundle_root": "@bundle_root",
            "unverified": "@unverified",
        },
    ),
    "bundle": ("@verified",),
    "data_root_dir": ("", None),
    "bundle_root": (".", {"_target_": "grata_monai.bundle.find_bundle_root"}),
}
"""Names that mean the operator's decision wherever they stand, and what a bundle may write there.

``@name``, which hands the decision on, may always stand there. `data_root_dir` is of MONAI's
`SaveImaged`: what an image's path has beyond that folder is added to `output_dir`, ``..`` too.
"""

WRITTEN = ("output_dir", "record_dir", "save_dir", "log_dir", "phantom_dir", "folder")
"""Names of folders to write into: inside the bundle, or inside what the operator named."""

READ = ("weights", "profile", "load_path")
"""Names of files that decide a result: from the bundle, but not from where runs write."""

NAMES = ("final_filename", "key_metric_filename", "file_prefix", "output_postfix", "output_ext")
"""Parts of names of files to write: a path there would leave the folder."""
NAME = re.compile(r"[\w. -]*")
SAVERS = ("SaveImage", "SaveImaged", "SaveImageD", "SaveImageDict")
DEEPEST = 8  # references from one to another
UNCOVERED = re.compile(rf"(?<![\w.-])({'|'.join(OUTPUT_FOLDERS)})(?![\w.-])")
OUTSIDE = re.compile(r"\.\.|//|^file:|(^|[$(,\[]\s*['\"])([/\\~]|[A-Za-z]:[/\\])")
"""Up, an address, or a path that begins anew: ``'/a'`` behind ``+`` goes on."""
REFERENCE = re.compile(r"[@%]([\w:#]+)")
OWN_FOLDERS = (*OUTPUT_FOLDERS, "models")
BELOW = r"(?P<below>(?:/\w[\w.-]*)+)"
PLAIN_FOLDER = re.compile(rf"(?:\./)?(?:{'|'.join(OWN_FOLDERS)})(?:/\w[\w.-]*)*")
JOINED = re.compile(rf"\$\s*@(?P<id>\w+)\s*\+\s*(?P<quote>['\"]){BELOW}(?P=quote)\s*")
CALLED = re.compile(
    r"\$\s*os\.path\.join\(\s*@(?P<id>\w+)\s*,\s*(?P<quote>['\"])(?P<below>\w[\w./-]*)(?P=quote)\s*\)"
)


def check_authority(root: Path) -> None:
    """Refuse a bundle whose own files say what only the operator may say. Nothing of it is run.

    Args:
        root: Of the bundle.

    Raises:
        BundleError: If a configuration file cannot be read, would make MONAI read another file, or
            says what it may not.
    """
    configs = dict(_read(root))
    known = gather(configs)
    for name, config in configs.items():
        try:
            for item in iterate_items(config):
                problem = _file_problem(item) or authority_problem(item, known, root)
                if problem:
                    raise BundleError(
                        f"a bundle must leave to the operator what is the operator's, {name} has "
                        f"{item.id}, which {problem}. Remove it there; give it when you run."
                    )
        except (ValueError, RecursionError) as error:
            raise _unreadable(name, type(error).__name__) from error


def authority_problem(item: Item, known: Known, root: Path | None = None) -> str:
    """Say why an item decides what only the operator may decide.

    Args:
        item: Of one of the bundle's own configurations.
        known: By `gather`.
        root: Of the bundle, whose absolute path may stand in a configuration; None if it may not.

    Returns:
        The problem, to follow "which"; empty if there is none.
    """
    above = re.split(r"#|::", str(item.written).removeprefix("+"))[:-1]
    reached = [part for part in above if part in RESERVED]
    if reached:
        return f"reaches into {reached[0]!r}, which only the operator may set"
    if item.key in RESERVED:
        permitted = (*RESERVED[item.key], f"@{item.key}")
        is_own = item.key == "bundle_root" and root is not None and _is_inside(item.value, root)
        is_same = any(item.value == one and type(item.value) is type(one) for one in permitted)
        return "" if is_same or is_own else "only the operator may set"
    return _file_place_problem(item, known, root)


def _file_place_problem(item: Item, known: Known, root: Path | None) -> str:
    """Say why an item reads or writes where a bundle may not."""
    if item.key in READ and _is_uncovered(item.value, known, root, depth=0):
        folders = ", ".join(f"{name}/" for name in OUTPUT_FOLDERS)
        return f"reads what no manifest covers: from {folders} or outside the bundle"
    if _saves_anywhere(item.value):
        return "writes where the process was started: it names no output_dir"
    if item.key in WRITTEN and not _is_writable(item.value, known, root, depth=0):
        return "names a folder to write that is neither the operator's nor the bundle's own"
    if item.key in NAMES and not _is_name(item.value, known, depth=0):
        return "must be a plain name of a file to write, or refer to one"
    return ""


def gather(configs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Collect what each id of a bundle may stand for, over all its configurations.

    Args:
        configs: File to content.

    Raises:
        ValueError: If one of them has too many items.
        RecursionError: If one is nested too deeply.
    """
    known: dict[str, list[Any]] = {}
    for config in configs.values():
        for item in iterate_items(config):
            known.setdefault(item.id.removeprefix("+").replace("#", "::"), []).append(item.value)
    return known


def _read(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in walk(root):
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() not in CONFIG_SUFFIXES or name == METADATA:
            continue
        try:
            config = read_config(path)
        except ValueError as error:
            raise _unreadable(path.name, str(error).split(":", maxsplit=1)[0]) from error
        if isinstance(config, dict):
            yield name, config


def _file_problem(item: Item) -> str:
    is_file = isinstance(item.value, str) and find_macro_file(item.value, item.id)
    if is_file or is_named_like_a_file(item.written):
        return "reads another file as configuration"
    return ""


def _is_name(value: Any, known: Known, *, depth: int) -> bool:
    if not isinstance(value, str) or depth > DEEPEST:
        return value is None
    if re.fullmatch(r"@\w+", value):
        return all(_is_name(one, known, depth=depth + 1) for one in known.get(value[1:], []))
    return NAME.fullmatch(value) is not None and ".." not in value


def _saves_anywhere(value: Any) -> bool:
    """Whether it is MONAI's `SaveImaged` without a folder."""
    is_component = isinstance(value, dict) and "output_dir" not in value
    return is_component and str(value.get("_target_")).rsplit(".", 1)[-1] in SAVERS


def _is_uncovered(value: Any, known: Known, root: Path | None, *, depth: int) -> bool:
    """Whether a text, or what it refers to, names a file that no manifest covers."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return any(_is_uncovered(part, known, root, depth=depth + 1) for part in parts)
    if not isinstance(value, str):
        return False
    if root is not None and _is_inside(value, root):
        value = str(Path(value).resolve().relative_to(root.resolve()))
    is_outside = OUTSIDE.search(value) or UNCOVERED.search(REFERENCE.sub(" ", value))
    if depth > DEEPEST or is_outside:
        return True
    ids = [id.replace("#", "::") for id in REFERENCE.findall(value)]
    found = (one for id in ids for one in known.get(id, []))
    return any(_is_uncovered(one, known, root, depth=depth + 1) for one in found)


def _is_writable(value: Any, known: Known, root: Path | None, *, depth: int) -> bool:
    if not isinstance(value, str) or depth > DEEPEST:
        return value is None
    if re.fullmatch(r"@\w+", value):
        return _leads(value[1:], known, root, depth)
    found = JOINED.fullmatch(value) or CALLED.fullmatch(value)
    if found is None:
        is_own = root is not None and _is_inside(value, root)
        return is_own or PLAIN_FOLDER.fullmatch(value) is not None
    parts = found["below"].strip("/").split("/")
    if not all(re.match(r"\w", part) for part in parts):
        return False
    is_own = found["id"] == "bundle_root" and parts[0] in OWN_FOLDERS
    return is_own or (found["id"] != "bundle_root" and _leads(found["id"], known, root, depth))


def _leads(id: str, known: Known, root: Path | None, depth: int) -> bool:
    """Whether an id stands for a folder that may be written; one that no file has is given."""
    return all(_is_writable(one, known, root, depth=depth + 1) for one in known.get(id, []))


def _is_inside(value: Any, root: Path) -> bool:
    if not (isinstance(value, str) and value.startswith("/")):
        return False
    return Path(value).resolve().is_relative_to(root.resolve())


def _unreadable(name: str, kind: str) -> BundleError:
    return BundleError(
        f"every configuration of the bundle must be readable, {name!r} is not ({kind}). Check it "
        "with: python -m grata_monai lint"
    )
