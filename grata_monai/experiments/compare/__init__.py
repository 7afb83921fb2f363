"""Methods × cases, on one harness: scores, paired statistics, and a report."""

__all__: list[str] = []
