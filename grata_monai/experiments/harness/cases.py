"""List the cases of an experiment as its network names them: a bundle's, or an nnU-Net's."""

from pathlib import Path

from grata_monai.core.errors import DatasetError
from grata_monai.nnunet.cases import pair_cases
from grata_monai.nnunet.folder import is_folder, read_ending
from grata_monai.read.cases import list_cases

__all__ = ["list_centre", "list_pairs"]


def list_centre(network: Path, folder: Path, centre: str, *, labels: bool) -> list[dict[str, str]]:
    """List the cases of one centre.

    Args:
        network: The bundle, or trained nnU-Net folder.
        folder: With ``images/`` and, if asked for, ``labels/``.
        centre: Its name.
        labels: Whether every case must have a label.

    Raises:
        DatasetError: If there are no images, or a label is missing.
    """
    if is_folder(network):
        found = list_pairs(network, folder / "images", folder / "labels" if labels else None)
    else:
        found = list_cases(folder, labels=labels)
    return [{**case, "centre": centre} for case in found]


def list_pairs(network: Path, images: Path, labels: Path | None) -> list[dict[str, str]]:
    """List the cases of a folder of images and another of labels.

    Args:
        network: The bundle, or trained nnU-Net folder.
        images: For an nnU-Net named as it names them, one file per channel.
        labels: Of the images' names; for an nnU-Net without the channel's number.

    Raises:
        DatasetError: If there are no images, or a label is missing.
    """
    if is_folder(network):
        return pair_cases(images, labels, read_ending(network))
    found = list_cases(images)
    for case in found if labels is not None else ():
        assert labels is not None
        label = labels / Path(case["image"]).name
        if not label.is_file():
            raise DatasetError(
                f"every image must have a label of its name, {label.name!r} has none. "
                "Add it, or leave the image out."
            )
        case["label"] = str(label.absolute())
    return found
