"""Find the bundle that belongs to this package, wherever the package is installed."""

from pathlib import Path

from grata_monai.core.errors import BundleError

__all__ = ["find_shipped_bundle"]


def find_shipped_bundle() -> Path:
    """Find the bundle with configuration and weights: in the wheel, or beside a checkout's package.

    Returns:
        Its root.

    Raises:
        BundleError: If it is in neither place.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "prostate_bundle", package.parent / "bundle"):
        if (folder / "configs").is_dir() and (folder / "models").is_dir():
            return folder
    raise BundleError(
        "the bundle must be installed with the package, it is not. Install the wheel, which holds "
        "it, with `pip install grata-monai`; or point to a bundle of your own with --bundle "
        "(bundle_dir in Python)."
    )
