"""How a reader tells that part of an image is padding, which is no tissue and has no intensity."""

__all__ = ["PADDING_KEY"]

PADDING_KEY = "padding_fraction"
"""In the meta data of an image: which part of its voxels is padding, and lies at the minimum."""
