"""Measuring: one harness for all methods, comparison, calibration, and published tables."""

__all__: list[str] = []
