"""A trained nnU-Net v2 folder as a network: read, built, its preprocessing, window and export."""

__all__: list[str] = []
