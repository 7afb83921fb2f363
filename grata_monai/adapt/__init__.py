"""The method: which weights move, along which gradient, how far, and what is left afterwards."""

__all__: list[str] = []
