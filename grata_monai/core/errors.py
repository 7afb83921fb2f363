"""Every refusal of grata_monai, typed, with what to do about it.

::

    GrataError
    ├── CaseError                    one case cannot be segmented; the others go on
    │   ├── UnreadableImageError     missing, truncated or not an image
    │   ├── GeometryError            singular affine, impossible spacing, wrong number of axes
    │   ├── IntensityError           NaN or infinite voxels, all voxels equal
    │   ├── ChannelError             not as many channels as the network takes
    │   └── DicomError               a DICOM series that is refused, with its reason code
    ├── DatasetError                 no case found, or a list of cases that cannot be read
    ├── BundleError                  a bundle whose files are not those of its manifest
    ├── OutputError                  the output folder cannot be written
    ├── RecordError                  a text that is no record of a case
    ├── ProfileError                 a source profile that is none, or of another network
    ├── TransferError                a DICOM peer did not answer, or refused what was sent
    ├── RecipeError                  a setting that does not exist or breaks its rule (a ValueError)
    ├── SettingError                 an id that no configuration of the bundle has (a ValueError)
    ├── NetworkError                 a network that cannot be copied, run or loaded
    │   ├── WeightsError             checkpoint keys or shapes that do not fit the network
    │   └── NothingToAdaptError      no parameter of the chosen groups exists in this network
    └── AdaptationError              adaptation failed in a way that the recipe forbids to hide
"""

__all__ = [
    "AdaptationError",
    "BundleError",
    "CaseError",
    "ChannelError",
    "DatasetError",
    "DicomError",
    "GeometryError",
    "GrataError",
    "IntensityError",
    "NetworkError",
    "NothingToAdaptError",
    "OutputError",
    "ProfileError",
    "RecipeError",
    "RecordError",
    "SettingError",
    "TransferError",
    "UnreadableImageError",
    "WeightsError",
    "find_cause",
    "find_refusal",
    "find_root",
]


class GrataError(Exception):
    """Root of every error that grata_monai raises on purpose."""


class CaseError(GrataError):
    """One case cannot be segmented; the message names the file and the remedy."""


class UnreadableImageError(CaseError):
    """The file is missing, truncated, or not an image in a format that we read."""


class GeometryError(CaseError):
    """The image's affine, spacing or number of axes makes no sense for the network."""


class IntensityError(CaseError):
    """The voxels carry no usable image: NaN, infinite, or all equal."""


class ChannelError(CaseError):
    """The image has not as many channels as the network takes."""


class DicomError(CaseError):
    """A DICOM series is refused.

    Attributes:
        reason: A code of `grata_monai.read.dicom.Reason`; stable between versions.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class DatasetError(GrataError):
    """No case was found where the caller pointed, or the list of cases cannot be read."""


class BundleError(GrataError):
    """A file of the bundle is missing, differs from its manifest, or is not listed there."""


class OutputError(GrataError):
    """The output folder or file cannot be written."""


class RecordError(GrataError):
    """A text is no record of a case, or a record that was changed or cut off."""


class ProfileError(GrataError):
    """A source profile that is none, or of another network."""


class TransferError(GrataError):
    """A DICOM peer could not be reached, refused, or gave back something else."""


class RecipeError(GrataError, ValueError):
    """A recipe names a setting that does not exist, or a value that breaks its rule."""


class SettingError(GrataError, ValueError):
    """A setting names an id that the bundle's configuration does not have, or may not be set."""


class NetworkError(GrataError):
    """The network cannot be copied, run or loaded."""


class WeightsError(NetworkError):
    """The checkpoint's keys or shapes do not fit the network."""


class NothingToAdaptError(NetworkError):
    """The network has no parameter of the groups that the recipe wants to move."""


class AdaptationError(GrataError):
    """Adaptation failed, and the recipe says to raise instead of falling back to the source."""


def find_cause(error: BaseException | None) -> GrataError | None:
    """Find the grata_monai error in a chain of causes; None if there is none."""
    while error is not None:
        if isinstance(error, GrataError):
            return error
        error = error.__cause__ or error.__context__
    return None


def find_root(error: BaseException) -> BaseException:
    """Find the exception that began a chain of causes; MONAI wraps them several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def find_refusal(error: Exception) -> Exception:
    """Find what MONAI has wrapped: our own error or a ValueError; else the error as it is."""
    cause = find_cause(error) or find_root(error)
    return cause if isinstance(cause, GrataError | ValueError) else error
