"""A bad case becomes a message, in every kind of loader, and the others come through."""

import logging
import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader as MonaiDataLoader
from monai.data import ThreadDataLoader
from monai.transforms import Compose, Lambdad
from torch.utils.data import DataLoader

from grata_monai.core.failures import CaseFailure
from grata_monai.read.dataset import CaseDataset, collate_cases
from grata_monai.read.image import LoadImageCheckedd


@pytest.fixture
def dataset(tmp_path):
    """A good case, an empty file, and a good case."""
    cases = []
    for name in ("a", "b", "c"):
        path = tmp_path / f"{name}.nii.gz"
        voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), path)
        cases.append({"image": str(path), "case": name, "centre": ""})
    (tmp_path / "b.nii.gz").write_bytes(b"")
    return CaseDataset(cases, Compose([Compose([LoadImageCheckedd("image")])]))


LOADERS = {
    "torch, no workers": lambda dataset: DataLoader(dataset, collate_fn=collate_cases),
    "torch, 2 workers": lambda dataset: DataLoader(
        dataset, collate_fn=collate_cases, num_workers=2
    ),
    "monai, 1 worker": lambda data: MonaiDataLoader(data, collate_fn=collate_cases, num_workers=1),
    "thread": lambda dataset: ThreadDataLoader(dataset, collate_fn=collate_cases, num_workers=0),
}


@pytest.mark.filterwarnings("ignore:.*(fork|os.fork):DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
@pytest.mark.parametrize("make_loader", LOADERS.values(), ids=LOADERS)
def test_a_failure_passes_through_the_loader_and_the_others_come_out(dataset, make_loader):
    first, second, third = list(make_loader(dataset))
    for batch, case in ((first, "a"), (third, "c")):
        assert batch["image"].shape == (1, 1, 3, 4, 5)
        assert batch["case"] == [case]
        assert batch["image"].meta["filename_or_obj"][0].endswith(f"{case}.nii.gz")
    failure = second["failure"]
    assert (second["case"], failure.case, failure.reason) == ("b", "b", "UnreadableImageError")
    assert failure.message.startswith("image must hold something, 'b.nii.gz' is empty")


def fail(value):
    raise ZeroDivisionError("division by zero")


def test_an_unexpected_error_is_named_without_monais_wrapping(dataset, caplog):
    broken = CaseDataset(dataset.data, Compose([Compose([Lambdad("image", fail)])]))
    with caplog.at_level(logging.DEBUG, logger="grata_monai"):
        item = broken[0]
    assert item["failure"].reason == "ZeroDivisionError"
    assert item["failure"].message.startswith("division by zero")
    assert "Traceback" in caplog.text


def test_a_case_without_a_name_is_called_after_its_file(tmp_path):
    dataset = CaseDataset([{"image": str(tmp_path / "x.nii.gz")}], LoadImageCheckedd("image"))
    assert dataset[0]["failure"].case == "x"


def test_an_interruption_is_no_failure(dataset):
    def interrupt(value):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CaseDataset(dataset.data, interrupt)[0]


def test_a_case_is_handed_out_unmutated_and_whole_without_a_transform(dataset):
    before = [dict(item) for item in dataset.data]
    _ = dataset[0]
    assert dataset.data == before
    assert CaseDataset(before)[1] == before[1]
    assert len(dataset) == 3


def test_a_failure_cannot_be_batched(dataset):
    with pytest.raises(ValueError, match="batch_size must be 1 where a case may fail, got 2"):
        collate_cases([dataset[0], dataset[1]])
    assert collate_cases([dataset[0], dataset[2]])["image"].shape == (2, 1, 3, 4, 5)


def test_data_set_and_failure_survive_pickling(dataset):
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[0]["image"], dataset[0]["image"])
    failure = CaseFailure("a", "IntensityError", "…")
    assert pickle.loads(pickle.dumps(failure)) == failure
