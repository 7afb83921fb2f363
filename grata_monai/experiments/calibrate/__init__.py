"""Choose a recipe on labelled source cases under scanner shifts; never on target labels."""

__all__: list[str] = []
