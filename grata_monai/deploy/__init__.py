"""Moved to `grata_monai.hosts.deploy`; images made before start it here until version 0.2."""

__all__: list[str] = []
