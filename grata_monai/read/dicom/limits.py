"""What untrusted DICOM files may cost: `grata_monai.core.limits`, under the name bundles use."""

from grata_monai.core.limits import Limits

__all__ = ["Limits"]
