"""Every tensor shape, named once (jaxtyping).

Axes: ``b`` cases or views in a batch, ``c`` image channels, ``k`` output channels (classes),
``*s`` two or three spatial axes in voxels; ``n`` windows cut from an image, ``*w`` their axes.
"""

import numpy as np
from jaxtyping import Float, Integer
from torch import Tensor

__all__ = [
    "Affine",
    "Images",
    "LabelMaps",
    "Logits",
    "Probabilities",
    "Scalar",
    "Vector",
    "Windows",
]

Images = Float[Tensor, "b c *s"]
Windows = Float[Tensor, "n c *w"]
Logits = Float[Tensor, "b k *s"]
Probabilities = Float[Tensor, "b k *s"]
LabelMaps = Integer[Tensor, "b 1 *s"]
Scalar = Float[Tensor, ""]
Vector = Float[Tensor, " n"]
Affine = Float[np.ndarray, "4 4"]
