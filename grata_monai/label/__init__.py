"""Moved to `grata_monai.hosts.label`; published bundles name what is in here until version 0.2."""

__all__: list[str] = []
