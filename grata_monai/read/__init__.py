"""Read: a file or a folder to images with their geometry, or a reasoned refusal."""

__all__: list[str] = []
