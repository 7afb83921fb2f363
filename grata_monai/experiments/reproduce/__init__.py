"""Named experiments on public data: train, calibrate on the source, compare on what is foreign."""

__all__: list[str] = []
