"""Open a bundle: verify its files, read its configuration, build its parts when they are asked for.

The one door: plain Python, DICOM, MONAI Deploy, MONAI Label, the harness, training, `wrap` and the
tools come in here. `python -m monai.bundle run` is MONAI's own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

from grata_monai.bundle.authority import check_authority
from grata_monai.bundle.items import CONFIG_SUFFIXES
from grata_monai.bundle.settings import check_setting, suggest
from grata_monai.bundle.verify import OUTPUT_FOLDERS, verify_bundle
from grata_monai.core.errors import BundleError, find_refusal

__all__ = ["Bundle", "open_bundle", "read_configuration"]

INFERENCE = ("inference", "inference_config", "evaluate")
WRITERS = ("SaveImageAndRecordd", "SaveDicomd")


class Bundle:
    """A bundle that was opened by `open_bundle`; each part is built once, when it is asked for.

    Args:
        root: The bundle's folder.
        parser: With the configuration.
        verified: What `verify_bundle` said.
    """

    def __init__(self, root: Path, parser: ConfigParser, verified: Mapping[str, Any]) -> None:
        self.root = root
        self.config_file = _find_config(root, INFERENCE)
        self.verified = verified
        self._parser = parser

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it was read, overlays and settings applied; nothing is built."""
        config: dict[str, Any] = self._parser.get()
        return config

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of ``configs/metadata.json``.

        Raises:
            BundleError: If it cannot be read.
        """
        path = self.root / "configs" / "metadata.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        return content

    @property
    def preprocessing(self) -> Compose:
        """File to image on the network's grid."""
        return _compose(self.get("preprocessing"))

    @property
    def network(self) -> nn.Module:
        """With its weights."""
        network: nn.Module = self.get("network")
        return network

    @property
    def inferer(self) -> Inferer:
        """Images and network to logits."""
        inferer: Inferer = self.get("inferer")
        return inferer

    @property
    def postprocessing(self) -> Compose:
        """Logits to a label map on the image's grid; writes nothing."""
        return _compose(self.get("postprocessing"))

    @property
    def writer(self) -> Callable[[Mapping[Any, Any]], Mapping[Any, Any]]:
        """Writes what postprocessing gave."""
        writer: Callable[[Mapping[Any, Any]], Mapping[Any, Any]] = self.get("writer")
        return writer

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return torch.device(self.get("device"))

    def get(self, id: str) -> Any:
        """Build any part of the configuration.

        Args:
            id: Such as ``evaluator``, or ``training#trainer``.

        Raises:
            BundleError: If the configuration has no such id.
            GrataError: Whatever of ours the part raises, without MONAI's wrapping; `ValueError`
                likewise.
        """
        if id not in self._parser:
            hint = suggest(id.split("#", maxsplit=1)[0], self.config)
            raise BundleError(f"the bundle's configuration must have {id!r}, it has not. {hint}")
        try:
            return self._parser.get_parsed_content(id)
        except RuntimeError as error:
            refusal = find_refusal(error)
        raise refusal

    def set(self, settings: Mapping[str, Any]) -> None:
        """Change the configuration; what was built before is built anew when it is asked for again.

        Args:
            settings: Ids and their values. ``a#b`` is a part of ``a``; a component may get
                arguments that it did not have.

        Raises:
            SettingError: If an id is not in the configuration, or was settled by `open_bundle`.
        """
        for id, value in settings.items():
            check_setting(id, self.config)
            self._parser[id] = value


def open_bundle(
    root: str | Path,
    overlays: Sequence[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
    *,
    unverified: bool = False,
    is_foreign: bool = False,
) -> Bundle:
    """Verify a bundle, then read its inference configuration. Nothing is built yet.

    Args:
        root: The bundle's folder.
        overlays: Merged behind it, in this order: names of the bundle's own, such as ``dicom`` or
            ``evaluate``; or paths of other files.
        settings: As `Bundle.set` takes them.
        unverified: Do not hold the bundle to its manifest; the record says so.
        is_foreign: The bundle is somebody else's and runs by MONAI's own command, so that it may
            name folders and addresses itself.

    Returns:
        The bundle.

    Raises:
        BundleError: If the bundle is not as its manifest says, and nothing of it was parsed then;
            or if it has no such configuration, or one that cannot be read; or if its own files say
            what only the operator may, see `grata_monai.bundle.authority`.
        SettingError: If a setting has no id of the configuration.
    """
    verified = verify_bundle(root, unverified=unverified)
    parser = read_configuration(root, overlays, is_foreign=is_foreign)
    parser["verified"] = verified
    bundle = Bundle(Path(root).absolute(), parser, verified)
    bundle.set(settings or {})
    return bundle


def read_configuration(
    root: str | Path, overlays: Sequence[str | Path] = (), *, is_foreign: bool = False
) -> ConfigParser:
    """Read a bundle's inference configuration with overlays, unverified, for hosts that build it.

    Args:
        root: The bundle's folder.
        overlays: As in `open_bundle`.
        is_foreign: As in `open_bundle`.

    Returns:
        MONAI's parser, which knows where the bundle lies.

    Raises:
        BundleError: If there is no such configuration, or one that cannot be read; or if the
            bundle's own files say what only the operator may.
    """
    folder = Path(root).absolute()
    if not is_foreign:
        check_authority(folder)
    parser = ConfigParser()
    files = [_find_config(folder, INFERENCE)]
    files += [_find_overlay(folder, overlay) for overlay in overlays]
    try:
        parser.read_config([str(file) for file in files])
    except Exception as error:  # whatever the reader of the format raises
        raise _unreadable(files[-1] if len(files) == 1 else folder / "configs", error) from error
    _separate_writer(parser.get())
    parser["bundle_root"] = str(folder)
    return parser


def _find_overlay(root: Path, overlay: str | Path) -> Path:
    path = Path(overlay)
    if path.suffix in CONFIG_SUFFIXES:
        _refuse_output(root, path)
        return path
    return _find_config(root, [str(overlay)])


def _refuse_output(root: Path, path: Path) -> None:
    """Refuse a configuration from where runs write: no manifest covers that."""
    for name in OUTPUT_FOLDERS:
        if path.resolve().is_relative_to((root / name).resolve()):
            raise BundleError(
                f"an overlay must not come from the bundle's {name}/, which no manifest covers, "
                f"{path.name!r} does. Read it, then move it out of the bundle."
            )


def _find_config(root: Path, names: Sequence[str]) -> Path:
    """Find a configuration by name; for inference, in the end any that begins with that word."""
    others = sorted(path.stem for path in (root / "configs").glob("inference*"))
    for name in (*names, *(others if names is INFERENCE else ())):
        for suffix in CONFIG_SUFFIXES:
            if (root / "configs" / f"{name}{suffix}").is_file():
                return root / "configs" / f"{name}{suffix}"
    raise BundleError(
        f"the bundle must hold configs/{names[0]}.json (or .yaml), {root.name!r} does not. "
        "Point to its root folder, the one that has configs/ and models/."
    )


def _unreadable(path: Path, error: Exception) -> BundleError:
    return BundleError(
        f"every configuration of the bundle must be readable, {path.name!r} is not "
        f"({type(error).__name__}). Check it with: python -m grata_monai lint"
    )


def _separate_writer(config: dict[str, Any]) -> None:
    """Make the writer with which postprocessing ends, as that of bundles did, their `writer`.

    Gone with version 0.2, as the old names of targets.
    """
    post, evaluator = config.get("postprocessing"), config.get("evaluator")
    steps = post.get("transforms") if isinstance(post, dict) else post
    last = steps[-1] if isinstance(steps, list) and steps else None
    target = str(last.get("_target_")) if isinstance(last, dict) else ""
    if not isinstance(steps, list) or not target.endswith(WRITERS):
        return
    config["writer"] = steps.pop()
    if isinstance(evaluator, dict) and evaluator.get("postprocessing") == "@postprocessing":
        both = {"_target_": "Compose", "transforms": ["@postprocessing", "@writer"]}
        evaluator["postprocessing"] = both


def _compose(transforms: Any) -> Compose:
    return transforms if isinstance(transforms, Compose) else Compose(transforms)
