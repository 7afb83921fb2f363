"""All rules over one bundle, without running any of it."""

from collections.abc import Iterator
from pathlib import Path

from grata_monai.bundle.lint.configs import check_config, read_config
from grata_monai.bundle.lint.files import CONFIG_SUFFIXES, check_file
from grata_monai.bundle.lint.finding import Finding
from grata_monai.bundle.lint.metadata import METADATA, check_metadata
from grata_monai.bundle.lint.targets import allowed_names
from grata_monai.bundle.verify import find_differences, walk

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
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        findings += check_file(path, name)
        if path.suffix.lower() in CONFIG_SUFFIXES and path.is_file() and not path.is_symlink():
            findings += check_config(path, name, names)
    findings += _check_presence(folder)
    return sorted(findings)


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
