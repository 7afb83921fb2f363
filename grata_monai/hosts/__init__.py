"""What runs the bundle: plain Python, MONAI Label, MONAI Deploy; MONAI's bundle run needs none."""

__all__: list[str] = []
