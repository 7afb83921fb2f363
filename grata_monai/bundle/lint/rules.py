"""All rules over one bundle, without running any of it."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from grata_monai.bundle.authority import Known, gather
from grata_monai.bundle.items import CONFIG_SUFFIXES, read_config
from grata_monai.bundle.lint.configs import check_config
from grata_monai.bundle.lint.files import check_file
from grata_monai.bundle.lint.finding import Finding
from grata_monai.bundle.lint.metadata import check_metadata
from grata_monai.bundle.lint.targets import allowed_names
from grata_monai.bundle.signature import SIGNATURE
from grata_monai.bundle.verify import METADATA, find_differences, walk

__all__ = ["check_bundle"]

WRITE = "Check what changed; then run `python -m grata_monai lint --write-manifest BUNDLE`."


def check_bundle(root: Path, *, allowed: frozenset[str] | None = None) -> list[Finding]:
    """Check a bundle against every rule; nothing of it is parsed by MONAI, imported or called.

    Args:
        root: Of the bundle.
        allowed: By `allowed_names`; the built-in list if None.

    Returns:
        What is wrong, by file; empty for a bundle that passes.

    Raises:
        BundleError: If the folder is no bundle, or a file cannot be read.
    """
    folder = root.resolve()
    findings = [
        Finding(one.file, "", "manifest", f"It {one.problem}.", WRITE)
        for one in find_differences(folder)
    ]
    names = allowed_names() if allowed is None else allowed
    configs: dict[str, Any] = {}
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        findings += check_file(path, name) if name != SIGNATURE else []
        if path.suffix.lower() in CONFIG_SUFFIXES and path.is_file() and not path.is_symlink():
            try:
                configs[name] = read_config(path)
            except ValueError as error:
                problem = f"The file cannot be read: {error}."
                findings.append(Finding(name, "", "config", problem, "Correct or remove it."))
    known = _gather(configs)
    for name, config in configs.items():
        findings += check_config(config, name, names, known)
    findings += _check_presence(folder)
    return sorted(findings)


def _gather(configs: Mapping[str, Any]) -> Known:
    """What references may stand for; the files that cannot be walked through are found apart."""
    known: dict[str, list[Any]] = {}
    for name, config in configs.items():
        with suppress(ValueError, RecursionError):
            for id, values in gather({name: config} if name != METADATA else {}).items():
                known.setdefault(id, []).extend(values)
    return known


def _check_presence(folder: Path) -> Iterator[Finding]:
    licence = folder / "LICENSE"
    if not licence.is_file() or not licence.read_bytes().strip():
        yield Finding("LICENSE", "", "licence", "There is no licence.", "Add its whole text.")
    if not any((folder / "models").glob("*.pt*")):
        problem = "The bundle holds no weights."
        yield Finding("models", "", "weights", problem, "Put model.pt there, a state dict.")
    if not (folder / METADATA).is_file():
        problem = "There are no metadata."
        yield Finding(METADATA, "", "metadata", problem, "Write them as the MONAI zoo asks.")
        return
    try:
        metadata = read_config(folder / METADATA)
    except ValueError:
        return  # said by check_config already
    if isinstance(metadata, dict):
        yield from check_metadata(metadata)
