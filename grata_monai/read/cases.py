"""List the cases to segment: a file, a folder, a folder of centres, or a MONAI data list.

Unreadable files are listed like others: the reader refuses them one by one, so the rest go on.
"""

import difflib
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grata_monai.core.errors import DatasetError
from grata_monai.phantom import write_cases

__all__ = [
    "EXTENSIONS",
    "list_cases",
    "list_phantoms",
    "select_cases",
    "split_cases",
    "strip_extension",
]

logger = logging.getLogger(__name__)

EXTENSIONS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
SECTIONS = ("testing", "test", "validation", "training")

Case = dict[str, str]


def list_cases(
    dataset_dir: str | Path | None,
    *,
    labels: bool = False,
    phantom_dir: str | Path | None = None,
    only: Sequence[str] | None = None,
) -> list[Case]:
    """List the cases below a path, in the order of their names.

    Args:
        dataset_dir: One of: an image file; a folder of image files; a folder with ``images/`` (and
            ``labels/`` with the same file names); a folder of centres, each with ``images/``; a
            MONAI data list ``.json``, whose paths are relative to its folder and of which the
            first non-empty section of testing, test, validation, training is taken. None makes
            one phantom. Relative paths start at the current folder.
        labels: Whether every case must have a label.
        phantom_dir: Where the phantom is written if `dataset_dir` is None.
        only: Names of cases or centres to keep; None keeps all.

    Returns:
        One dictionary per case: ``image`` (absolute path), ``case`` (unique name), ``centre``
        (folder's name, or empty) and, if asked for, ``label``.

    Raises:
        DatasetError: If the path does not exist, holds no image, lacks a label, or is no data list.
    """
    if dataset_dir is None:
        if phantom_dir is None:
            raise DatasetError(
                "dataset_dir must be given, got none. "
                "Set dataset_dir to a file or folder of images."
            )
        return _name_uniquely(_list_phantom(Path(phantom_dir), labels=labels))
    path = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    if not path.exists():
        raise DatasetError(
            f"dataset_dir must exist, got {path.name!r}. {_suggest_path(path)} "
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
            f"({', '.join(EXTENSIONS)}), got {path.name!r}. Convert the file to NIfTI."
        )
    logger.info("found %d case(s)", len(found))
    named = _name_uniquely(found)
    return named if only is None else select_cases(named, only=only)


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
    raise DatasetError(
        f"dataset_dir must hold images ({', '.join(EXTENSIONS)}), a folder images/, or one folder "
        f"per centre with images/ in it; {folder.name!r} holds none. Point dataset_dir to the "
        "folder of the images, or to a data list (.json)."
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
    images = [p for p in entries if _is_image(p) and _is_visible(p) and not p.is_dir()]
    others = sum(p.is_file() for p in entries) - sum(p.is_file() for p in images)
    if others:
        logger.info("skipped %d file(s) that are no images", others)
    return images


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
    """Tell cases of equal name apart by centre or folder, in the end by number."""
    counts = Counter(case["case"] for case in cases)
    used: set[str] = set()
    named = []
    for case in cases:
        name = case["case"]
        if counts[name] > 1:
            name = f"{case['centre'] or Path(case['image']).parent.name}_{name}"
        unique, number = name, 2
        while unique in used or (unique != case["case"] and unique in counts):
            unique, number = f"{name}_{number}", number + 1
        used.add(unique)
        named.append({**case, "case": unique})
    return named


def _suggest_path(path: Path) -> str:
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
