"""Documents that a hospital asks for, made from what they describe, so that they stay true."""

__all__: list[str] = []
