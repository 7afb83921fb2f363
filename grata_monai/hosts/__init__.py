"""What runs the bundle: the terminal, plain Python, MONAI Label, MONAI Deploy."""

__all__: list[str] = []
