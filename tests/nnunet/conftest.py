from functools import partial

import pytest
from nnunet_trained import write_trained


@pytest.fixture
def trained(tmp_path):
    """Write a folder as nnU-Net's training leaves it, with changes."""
    return partial(write_trained, tmp_path / "model")
