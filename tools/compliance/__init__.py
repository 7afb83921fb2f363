"""Paperwork that a hospital asks for, made from what it is about, so that it cannot fall behind."""

__all__: list[str] = []
