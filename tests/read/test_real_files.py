"""Real files of other programs end as a person judged them, once and for a stated reason."""

from unittest import mock

import pytest
from fuzz_dicom import parse_here
from real_files import JUDGED, find_members, list_files, render_rows, unpack

from grata_monai.core.errors import CaseError
from grata_monai.read.dicom import headers
from grata_monai.read.dicom.triage import triage
from grata_monai.read.image import read_image

IMAGE_ENDINGS = (".nii", ".nii.gz", ".hdr", ".mgz")


def answer_of(path):
    """What becomes of a file or folder, in one word."""
    if path.name.endswith(IMAGE_ENDINGS):
        try:
            read_image(path)
        except CaseError as error:
            return type(error).__name__
        return "read"
    with mock.patch.object(headers, "run_each", parse_here):
        found = triage(path)
    codes = {rejection.reason.value for rejection in found.rejections}
    codes |= {"accepted"} if found.volumes else set()
    codes |= {"no DICOM"} if found.skipped else set()
    return " ".join(sorted(codes)) or "index"


@pytest.mark.parametrize("judged", JUDGED, ids=lambda judged: judged.names[0])
def test_real_files_end_as_they_were_judged(judged, tmp_path):
    members = list(find_members(judged))
    assert members
    answers = {member: answer_of(unpack(judged, member, tmp_path)) for member in members}
    assert answers == dict.fromkeys(members, judged.answer)


@pytest.mark.parametrize("package", ["pydicom", "nibabel"])
def test_every_file_is_judged(package):
    judged = {m for each in JUDGED if each.package == package for m in find_members(each)}
    assert set(list_files(package)) <= judged


def test_the_reference_shows_every_judgement(repository):
    page = (repository / "docs" / "reference" / "dicom-corpus.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## Real files")
    shown = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert shown == render_rows()
