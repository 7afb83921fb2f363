"""What our own check said of a bundle, as a type that no configuration can write down."""

from typing import Any

__all__ = ["Verified"]


class Verified(dict[str, Any]):
    """What a record says of the bundle; made by `grata_monai.bundle.verify`, or after it.

    A configuration can write the same words as a plain dictionary, but not as this type; so who
    asks for it is told by our own check, or by nobody. MONAI's parser keeps the type of what it
    copies. The keys are those of `BundleVerification`.
    """
