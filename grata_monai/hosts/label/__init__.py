"""MONAI Label as a host: what its client shows and asks, what it answers, and the way in."""

__all__: list[str] = []
