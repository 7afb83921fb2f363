"""List the cases to segment: a file, a folder, a folder of centres, or a MONAI data list.

Decisions:

- Unreadable files are listed like others: the reader refuses them one by one, so the rest go on.
- An output is never an input: masks that lie beside their record are passed over, and a run may not
  write into a folder that it reads images or labels from.
- A case's name is what its files will be called: no path, no extension, unlike every other name.
"""

import difflib
import json
import logging
import os
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grata_monai.core.errors import DatasetError
from grata_monai.core.files import Typed, as_path, as_text
from grata_monai.phantom import write_cases
from grata_monai.read.dicom.discover import holds_dicom
from grata_monai.read.outputs import RECORD_ENDING, list_masks

__all__ = [
    "EXTENSIONS",
    "list_cases",
    "list_phantoms",
    "select_cases",
    "split_cases",
    "strip_extension",
    "suggest_path",
]

logger = logging.getLogger(__name__)

CONTROL = ("Cc", "Cf", "Zl", "Zp")  # Unicode's kinds of signs that steer a terminal or a line
EXTENSIONS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
USE_THE_OVERLAY = (
    "Run `grata-monai segment`, which tells them apart, or lay the overlay dicom.json over "
    "inference.json: --config_file \"['CONFIGS/inference.json','CONFIGS/dicom.json']\""
)
SECTIONS = ("testing", "test", "validation", "training")

Case = dict[str, str]


def list_cases(
    dataset_dir: Typed | None,
    *,
    labels: bool = False,
    phantom_dir: str | Path | None = None,
    output_dir: Typed | None = None,
    only: Typed | list[Typed] | None = None,
) -> list[Case]:
    """List the cases below a path, in the order of their names.

    Args:
        dataset_dir: One of: an image file; a folder of image files; a folder with ``images/`` (and
            ``labels/`` with the same file names); a folder of centres, each with ``images/``; a
            MONAI data list ``.json``, whose paths are relative to its folder and of which the
            first non-empty section of testing, test, validation, training is taken. None makes
            one phantom. Relative paths start at the current folder.
        labels: Whether every case must have a label.
        phantom_dir: Where the phantom is written if `dataset_dir` is None; ``phantom`` in
            `output_dir` if None.
        output_dir: Where the run will write; no image and no label may lie in that very folder.
        only: Name, or names, of cases or centres to keep; None keeps all.

    Returns:
        One dictionary per case: ``image`` (absolute path), ``case`` (unique name), ``centre``
        (folder's name, or empty) and, if asked for, ``label``.

    Raises:
        DatasetError: If the path does not exist, holds no image, lacks a label, or is no data list;
            or if images or labels lie in `output_dir`.
        ValueError: If a path or name came as something else than a text or whole number.
    """
    if dataset_dir is None:
        if phantom_dir is None and output_dir is not None:
            phantom_dir = as_path(output_dir, name="output_dir") / "phantom"
        if phantom_dir is None:
            raise DatasetError(
                "dataset_dir must be given, got none. "
                "Set dataset_dir to a file or folder of images."
            )
        return _name_uniquely(_list_phantom(Path(phantom_dir), labels=labels))
    path = Path(os.path.abspath(as_path(dataset_dir, name="dataset_dir").expanduser()))
    if not path.exists():
        raise DatasetError(
            f"dataset_dir must exist, got {path.name!r}. {suggest_path(path)} "
            "Relative paths start at the current folder."
        )
    if path.is_dir():
        found = _list_folder(path, labels=labels)
    elif path.name.lower().endswith(".json"):
        found = _list_datalist(path, labels=labels)
    elif _is_image(path):
        found = [_make_case(path, centre="", labels_dir=_labels_beside(path), labels=labels)]
    else:
        raise DatasetError(
            f"dataset_dir must be a folder, a data list (.json) or an image "
            f"({', '.join(EXTENSIONS)}), got {path.name!r}. "
            f"{USE_THE_OVERLAY if holds_dicom(path) else 'Convert the file to NIfTI.'}"
        )
    logger.info("found %d case(s)", len(found))
    if output_dir is not None:
        _check_apart(found, as_path(output_dir, name="output_dir"))
    named = _name_uniquely(found)
    if only is None:
        return named
    names = only if isinstance(only, list | tuple) else [only]
    return select_cases(named, only=[as_text(name, name="only") for name in names])


def list_phantoms(
    folder: str | Path, *, cases: int, shifts: Sequence[str] = ("none",), seed: int = 0
) -> list[Case]:
    """Make labelled phantoms and list them.

    Args:
        folder: Where they are written.
        cases: How many in all; they take the shifts in turn.
        shifts: Names out of `grata_monai.phantom.SHIFTS`.
        seed: Of the first case; the others follow by one.

    Returns:
        Cases with labels, of centre ``phantom``.

    Raises:
        ValueError: If a shift does not exist.
    """
    found = []
    for number in range(cases):
        shift = shifts[number % len(shifts)]
        for image, label in write_cases(folder, cases=1, shift=shift, seed=seed + number):
            found.append(_phantom_case(image, label))
    return _name_uniquely(found)


def select_cases(cases: Sequence[Case], *, only: Sequence[str]) -> list[Case]:
    """Keep cases by name or by centre, in their order.

    Raises:
        DatasetError: If a name belongs to no case and no centre.
    """
    known = sorted({case[key] for case in cases for key in ("case", "centre")})
    for name in only:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DatasetError(f"only must be among {known}, got {name!r}.{hint}")
    return [case for case in cases if case["case"] in only or case["centre"] in only]


def split_cases(
    cases: Sequence[Case], *, held_back: int, seed: int
) -> tuple[list[Case], list[Case]]:
    """Hold some cases back, taking turns between the centres.

    Which ones depends on names and seed only, not on the order of the cases.

    Args:
        cases: Cases with unique names.
        held_back: How many to hold back, from 0 to one less than there are.
        seed: Of the choice.

    Returns:
        Cases for training, and those held back, both in the given order.

    Raises:
        ValueError: If no case would be left for training.
    """
    if not 0 <= held_back < max(len(cases), 1):
        raise ValueError(
            f"held_back must lie in [0, {len(cases) - 1}] for {len(cases)} cases, got {held_back}. "
            "Hold fewer back."
        )
    generator = random.Random(seed)
    queues = {}
    for centre in sorted({case["centre"] for case in cases}):
        queues[centre] = sorted(case["case"] for case in cases if case["centre"] == centre)
        generator.shuffle(queues[centre])
    chosen: set[str] = set()
    while len(chosen) < held_back:
        for queue in queues.values():
            if queue and len(chosen) < held_back:
                chosen.add(queue.pop())
    training = [case for case in cases if case["case"] not in chosen]
    return training, [case for case in cases if case["case"] in chosen]


def strip_extension(name: str) -> str:
    """Take an image's extension off a file name.

    >>> strip_extension("Case07.NII.GZ")
    'Case07'
    """
    for extension in EXTENSIONS:
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name


def _list_folder(folder: Path, *, labels: bool) -> list[Case]:
    if (folder / "images").is_dir():
        return _list_centre(folder, centre="", labels=labels)
    if found := _list_images(folder):
        labels_dir = _labels_beside(found[0])
        return [_make_case(p, centre="", labels_dir=labels_dir, labels=labels) for p in found]
    centres = [p for p in sorted(folder.iterdir()) if (p / "images").is_dir() and _is_visible(p)]
    if centres:
        return [c for p in centres for c in _list_centre(p, centre=p.name, labels=labels)]
    hint = "Point dataset_dir to the folder of the images, or to a data list (.json)."
    raise DatasetError(
        f"dataset_dir must hold images ({', '.join(EXTENSIONS)}), a folder images/, or one folder "
        f"per centre with images/ in it; {folder.name!r} holds "
        f"{f'DICOM files. {USE_THE_OVERLAY}' if holds_dicom(folder) else f'none. {hint}'}"
    )


def _list_centre(folder: Path, *, centre: str, labels: bool) -> list[Case]:
    found = _list_images(folder / "images")
    if not found:
        raise DatasetError(
            f"images/ of {folder.name!r} must hold images ({', '.join(EXTENSIONS)}), found none. "
            "Put the images there, or remove the folder."
        )
    return [
        _make_case(p, centre=centre, labels_dir=folder / "labels", labels=labels) for p in found
    ]


def _list_images(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir())
    found = [p for p in entries if _is_image(p) and _is_visible(p) and not p.is_dir()]
    others = sum(p.is_file() for p in entries) - sum(p.is_file() for p in found)
    if others:
        logger.info("skipped %d file(s) that are no images", others)
    outputs = list_masks(p for p in entries if p.name.endswith(RECORD_ENDING))
    images = [p for p in found if p.name not in outputs]
    if len(images) < len(found):
        logger.info("skipped %d mask(s) of an earlier run", len(found) - len(images))
    return images


def _check_apart(cases: Sequence[Case], output_dir: Path) -> None:
    """Refuse to write into a folder that is read from: an input could be replaced by a mask."""
    target = output_dir.expanduser().resolve()
    inputs = {Path(case[key]).parent for case in cases for key in ("image", "label") if key in case}
    if target in {folder.resolve() for folder in inputs}:
        raise DatasetError(
            f"output_dir must be another folder than that of the images and labels, both are "
            f"{target.name!r}. Choose another output_dir, such as {target.name + '/masks'!r}."
        )


def _labels_beside(image: Path) -> Path:
    return image.parent.parent / "labels"


def _make_case(image: Path, *, centre: str, labels_dir: Path, labels: bool) -> Case:
    case = {"image": str(image), "case": strip_extension(image.name), "centre": centre}
    if labels:
        names = [image.name, *(f"{case['case']}{extension}" for extension in EXTENSIONS)]
        label = next(
            (p for p in (labels_dir / n for n in names) if p.is_file() and p != image), None
        )
        if label is None:
            raise DatasetError(
                f"every image must have a label labels/{image.name}, {image.name!r} has none. "
                "Put the images into images/ and the labels, under the same names, into labels/."
            )
        case["label"] = str(label)
    return case


def _list_datalist(path: Path, *, labels: bool) -> list[Case]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"data list must be JSON, {path.name!r} is not: {error}. Correct the file."
        ) from error
    items = _find_section(content, labels=labels) if isinstance(content, Mapping) else content
    if not isinstance(items, list) or not items:
        raise DatasetError(
            f"data list must be a list of cases, or hold one under {', '.join(SECTIONS)}"
            f"{' with labels' if labels else ''}; {path.name!r} does not. "
            'Write {"testing": [{"image": "a.nii.gz"}]}.'
        )
    return [_read_item(item, number, path, labels=labels) for number, item in enumerate(items)]


def _find_section(content: Mapping[str, Any], *, labels: bool) -> Any:
    for name in SECTIONS:
        items = content.get(name)
        if not items or not isinstance(items, list):
            continue
        if not labels or all(isinstance(item, Mapping) and "label" in item for item in items):
            logger.info("took section %r of the data list", name)
            return items
    return None


def _read_item(item: Any, number: int, path: Path, *, labels: bool) -> Case:
    item = {"image": item} if isinstance(item, str) else item
    for key in ("image", "label") if labels else ("image",):
        if not isinstance(item, Mapping) or not isinstance(item.get(key), str):
            raise DatasetError(
                f"item {number} of {path.name!r} must have one path under {key!r}, and has not. "
                f'Write "{key}": "{key}s/a.nii.gz".'
            )
    image, centre = path.parent / item["image"], item.get("centre", "")
    name = item.get("case") or strip_extension(image.name)
    case = {"image": os.path.abspath(image), "case": str(name), "centre": str(centre)}
    if labels:
        label = path.parent / item["label"]
        if not label.is_file():
            raise DatasetError(
                f"label of item {number} of {path.name!r} must exist, {label.name!r} does not. "
                "Paths are relative to the folder of the data list."
            )
        case["label"] = os.path.abspath(label)
    return case


def _list_phantom(folder: Path, *, labels: bool) -> list[Case]:
    logger.info("no dataset_dir: a phantom is made")
    image, label = write_cases(folder, cases=1, shift="endorectal_coil", seed=0)[0]
    case = _phantom_case(image, label)
    return [case if labels else {key: case[key] for key in ("image", "case", "centre")}]


def _phantom_case(image: Path, label: Path) -> Case:
    name = strip_extension(image.name)
    paths = {"image": os.path.abspath(image), "label": os.path.abspath(label)}
    return {**paths, "case": name, "centre": "phantom"}


def _name_uniquely(cases: Sequence[Case]) -> list[Case]:
    """Tell cases of equal name apart by centre or folder, in the end by number.

    Names that differ in small and capital letters only are equal: on some disks their files are.
    """
    plain = [_clean_name(case["case"]) for case in cases]
    counts = Counter(name.casefold() for name in plain)
    used: set[str] = set()
    named = []
    for case, own in zip(cases, plain, strict=True):
        name = own
        if counts[own.casefold()] > 1:
            name = _clean_name(f"{case['centre'] or Path(case['image']).parent.name}_{own}")
        unique, number = name, 2
        while unique.casefold() in used or (unique != own and unique.casefold() in counts):
            unique, number = f"{name}_{number}", number + 1
        used.add(unique.casefold())
        named.append({**case, "case": unique})
    return named


def _clean_name(name: str) -> str:
    r"""Make of a name what may be the beginning of a file's name, and stand in a line of a log.

    >>> _clean_name("north/case1.mha.nii.gz")
    'north_case1'
    >>> _clean_name("a\nb\x1b[31m")
    'a_b_[31m'
    """
    name = re.sub(r"[/\\]+", "_", name).lstrip(".") or "case"
    name = "".join("_" if unicodedata.category(c) in CONTROL else c for c in name)
    while (shorter := strip_extension(name)) and shorter != name:
        name = shorter
    return name


def suggest_path(path: Path) -> str:
    """Say which name comes nearest to one that does not exist; the path is absolute."""
    parent = path.parent
    while not parent.is_dir():
        path, parent = parent, parent.parent
    siblings = [p.name for p in parent.iterdir()]
    near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r} in {parent.name!r}?"
    return f"{path.name!r} is not in {parent.name!r}; check the path."


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(EXTENSIONS)


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".")
