"""nnU-Net v2 as a host: its preprocessing, window, export and file names around our adaptation."""

__all__: list[str] = []
