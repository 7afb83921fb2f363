"""GraTa and its peers behind one interface, for one harness, one guard, and honest tables."""

__all__: list[str] = []
