"""Tools that work on a checkout of the repository; they are not part of the wheel."""

__all__: list[str] = []
