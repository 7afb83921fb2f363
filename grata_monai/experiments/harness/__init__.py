"""The harness: every method meets the same cases in the same way, one row per method and case."""

__all__: list[str] = []
