"""What a reader looks at: contours on slices, sheets of measurements, the verdict in words."""

__all__: list[str] = []
