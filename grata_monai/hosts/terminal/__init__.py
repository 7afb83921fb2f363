"""Segment from the terminal: ``grata-monai segment IN OUT``, around the bundle's own pipeline."""

__all__: list[str] = []
