"""Write: mask and record, whole or not at all."""

__all__: list[str] = []
