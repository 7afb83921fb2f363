"""Put the bundle where the stock ``monaibundle`` app of MONAI Label finds it."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from grata_monai.bundle import load_network, open_bundle
from grata_monai.bundle.verify import MANIFEST, find_differences, verify_manifest, walk
from grata_monai.core.errors import BundleError, OutputError
from grata_monai.core.files import atomic_folder, ensure_writable
from grata_monai.core.working import working_folder

__all__ = ["MODEL", "install_bundle", "prepare_app"]

MODEL = "prostate_mri_segmentation"
"""Name of the model; MONAI Label tells from its ending what kind of model it is."""

APP_FILE = "main.py"
APP_HINT = "monailabel apps --download --name monaibundle --output apps"
NOT_COPIED = shutil.ignore_patterns("model", "logs", "__pycache__")


def prepare_app(app_dir: str | Path) -> bool:
    """Make sure that a folder is an app of MONAI Label.

    Args:
        app_dir: The app's folder. If it is missing or empty, the stock app of the MONAI Label that
            is installed beside this package is copied there.

    Returns:
        Whether the app was copied.

    Raises:
        ValueError: If the folder is no app, or MONAI Label is not installed here.
        OutputError: If it cannot be written.
    """
    app = Path(app_dir)
    if (app / APP_FILE).is_file():
        return False
    if app.exists() and (not app.is_dir() or any(app.iterdir())):
        raise ValueError(
            f"APP_DIR must be an app of MONAI Label, {app.name!r} has no {APP_FILE}. "
            f"Give a new folder, or one that `{APP_HINT}` made."
        )
    stock = _find_stock_app()
    if stock is None:
        raise ValueError(
            f"APP_DIR must be an app of MONAI Label, {app.name!r} is none yet, and this Python has "
            f"no MONAI Label to take one from. Run `{APP_HINT}` first, or install with the Python "
            "of MONAI Label (make label-env)."
        )
    ensure_writable(app.absolute().parent)
    with atomic_folder(app) as folder:
        shutil.copytree(stock, folder, ignore=NOT_COPIED, dirs_exist_ok=True)
    return True


def install_bundle(bundle_dir: str | Path, app_dir: str | Path, *, is_link: bool = False) -> Path:
    """Copy or link a bundle into an app, whole or not at all.

    Args:
        bundle_dir: Root of the bundle.
        app_dir: Of the app.
        is_link: Make a symbolic link instead of a copy.

    Returns:
        Where the bundle lies now.

    Raises:
        BundleError: If the bundle is not as its manifest says.
        WeightsError: If its weights do not fit its network, key by key.
        OutputError: If something else lies there, or it cannot be written.
    """
    bundle = Path(bundle_dir).resolve()
    _check_weights(bundle)
    target = ensure_writable(Path(app_dir) / "model") / MODEL
    _check_replaceable(target, is_link=is_link)
    if is_link:
        _link(bundle, target)
    else:
        _copy(bundle, target)
    return target


def _find_stock_app() -> Path | None:
    folder = Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle"
    return folder if (folder / APP_FILE).is_file() else None


def _check_weights(bundle: Path) -> None:
    """Open the bundle, and load the weights strictly: MONAI Label only warns if they do not fit."""
    network = open_bundle(bundle).get("network_def")
    load_network(network, str(bundle / "models" / "model.pt"), "cpu")


def _check_replaceable(target: Path, *, is_link: bool) -> None:
    """Refuse to replace anything but a link, or a bundle that nobody has changed."""
    if target.is_symlink() or not target.exists():
        return
    with suppress(BundleError):
        is_ours = (target / MANIFEST).is_file() and not find_differences(target)
        if is_ours and not is_link:
            return
    what = "a link would replace a folder" if is_link else "it is no unchanged bundle"
    raise OutputError(
        f"model/{MODEL} of the app must be free, or hold an unchanged bundle to replace, "
        f"{what}. Move it away, then install again."
    )


def _copy(bundle: Path, target: Path) -> None:
    with atomic_folder(target) as folder:
        for file in walk(bundle):
            place = folder / file.relative_to(bundle)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        verify_manifest(folder)


def _link(bundle: Path, target: Path) -> None:
    try:
        with working_folder(target.parent) as work:
            (work / "link").symlink_to(bundle, target_is_directory=True)
            os.replace(work / "link", target)
    except OSError as error:
        raise OutputError(
            f"model/{MODEL} of the app must be writable, it is not: {error.strerror or error}. "
            "Correct the permissions, or install without --link."
        ) from error
