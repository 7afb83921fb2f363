"""The ground that every other room stands on: errors, types, files, failures, precision."""

__all__: list[str] = []
