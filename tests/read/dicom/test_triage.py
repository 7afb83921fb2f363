import io
import json
import os
import re
import subprocess
from pathlib import Path
from shutil import copy2

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless
from rich.console import Console

from grata_monai.core.errors import DatasetError
from grata_monai.phantom.dicom import (
    SeriesOptions,
    make_series,
    stored_volume,
    write_instances,
    write_series,
)
from grata_monai.read.dicom import headers as headers_module
from grata_monai.read.dicom.headers import read_headers
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.selection import Selection
from grata_monai.read.dicom.triage import Triage, render_table, triage

IMAGE = np.random.default_rng(0).integers(0, 4000, (8, 6, 5))
AFFINE = np.array(
    [[-1.2, 0.0, 0.0, 40.0], [0.0, -0.6, 1.6, -30.0], [0.0, 0.8, 1.2, 20.0], [0, 0, 0, 1]]
)
AFFINE[:3, 1] *= 1.5
AFFINE[:3, 2] *= 1.25
SECRET = "DOE^JOHN"


@pytest.fixture
def in_process(monkeypatch):
    """Parse without a subprocess; other tests here start one."""
    monkeypatch.setattr(
        headers_module, "run_each", lambda function, requests, **_: map(function, requests)
    )


def instances(**options):
    return make_series(IMAGE, AFFINE, options=SeriesOptions(**options))


def reasons(found: Triage) -> list[str]:
    return [rejection.reason.value for rejection in found.rejections]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"modality": "CT", "rescale": (2.0, -1024.0)},
        {"is_enhanced": True},
        {"is_enhanced": True, "modality": "CT"},
        {"is_shuffled": True, "transfer_syntax": RLELossless},
        {"tilt_degrees": 12.0, "modality": "CT"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("in_process")
def test_a_good_series_is_one_volume_with_its_exact_affine(tmp_path, options):
    rescale = {"rescale": (2.0, 0.0), **options}["rescale"] if "rescale" in options else None
    image = IMAGE * 2 if rescale else IMAGE
    options = SeriesOptions(**options)
    write_series(tmp_path, image, AFFINE, options=options)
    found = triage(tmp_path)
    assert found.rejections == ()
    (volume,) = found.volumes
    _, affine = stored_volume(image, AFFINE, options=options)
    assert volume.spatial_shape == IMAGE.shape
    np.testing.assert_allclose(volume.affine_ras, affine, atol=1e-5)
    assert volume.tilt_degrees == pytest.approx(options.tilt_degrees, abs=1e-4)
    assert volume.modality == options.modality
    assert re.fullmatch(r"series_[0-9a-f]{16}", volume.name)


@pytest.mark.usefixtures("in_process")
def test_geometry_agrees_with_highdicom(tmp_path):
    files = write_instances(instances(), tmp_path / "classic")
    (classic,) = triage(tmp_path / "classic").volumes
    found = highdicom.get_volume_from_series([pydicom.dcmread(file) for file in files])
    expected = found.flip_spatial(0)  # highdicom's frames go against the normal
    # highdicom's axes are (frame, row, column)
    np.testing.assert_allclose(classic.affine_lps[:3, 2::-1], expected.affine[:3, :3], atol=1e-6)
    np.testing.assert_allclose(classic.affine_lps[:3, 3], expected.position, atol=1e-6)
    (file,) = write_instances(instances(is_enhanced=True), tmp_path / "enhanced")
    (enhanced,) = triage(file).volumes
    expected = highdicom.imread(file).get_volume().flip_spatial(0)
    np.testing.assert_allclose(enhanced.affine_lps[:3, 2::-1], expected.affine[:3, :3], atol=1e-6)
    np.testing.assert_allclose(enhanced.affine_lps[:3, 3], expected.position, atol=1e-6)


@pytest.mark.usefixtures("in_process")
def test_the_result_does_not_depend_on_names_and_order(tmp_path):
    datasets = instances()
    write_instances(datasets, tmp_path / "a")
    write_instances(datasets[::-1], tmp_path / "b", has_plain_names=False)
    first, second = triage(tmp_path / "a").volumes[0], triage(tmp_path / "b").volumes[0]
    assert first.name == second.name
    assert [f.sop_instance_uid for f in first.frames] == [f.sop_instance_uid for f in second.frames]


@pytest.mark.usefixtures("in_process")
def test_files_are_found_through_links_and_other_files(tmp_path):
    files = write_instances(instances(), tmp_path / "study" / "deep" / "er")
    for file in files:
        file.rename(file.with_suffix(""))
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "study" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(files[0].with_suffix(""))
    (tmp_path / "dead").symlink_to(tmp_path / "nothing")
    (tmp_path / "DICOMDIR").write_bytes(_dicomdir())
    done = []
    found = triage(tmp_path, progress=lambda count, total: done.append((count, total)))
    assert len(found.volumes[0].frames) == 5
    assert found.rejections == ()
    assert found.skipped == 4
    assert found.volumes[0].notes == ()
    assert done[-1] == (8, 8)


def test_a_missing_path_is_named_by_its_last_part(tmp_path):
    with pytest.raises(DatasetError, match="path must exist, 'gone' does not"):
        triage(tmp_path / "gone")
    assert triage(tmp_path) == Triage((), (), 0)


def localizer(dataset):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def capture(dataset):
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def report(dataset):
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        "1.2.840.10008.5.1.4.1.1.104.1"
    )
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(dataset, keyword)


def ultrasound(dataset):
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("edit", "reason", "text"),
    [
        (localizer, "localizer", "1 left out: localizer"),
        (capture, "secondary_capture", "1 left out: secondary capture"),
        (report, "not_an_image", "1 left out: without pixels"),
        (ultrasound, "unsupported_image", "1 left out: of a kind that is not read"),
    ],
)
def test_what_is_no_image_is_left_out_and_refused_where_nothing_else_is(
    tmp_path, edit, reason, text
):
    datasets = [*instances(), instances()[0]]
    datasets[-1].SOPInstanceUID = "1.2.3"
    edit(datasets[-1])
    files = write_instances(datasets, tmp_path)
    (volume,) = triage(tmp_path).volumes
    assert volume.notes == (text,)
    assert len(volume.frames) == 5
    (rejection,) = triage(files[-1]).rejections
    assert rejection.reason.value == reason
    assert rejection.name == volume.name


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("PixelSpacing", [0, 0], "invalid_geometry"),
        ("ImagePositionPatient", None, "invalid_geometry"),
        ("RescaleSlope", 0, "invalid_rescale"),
        ("Columns", 60000, "truncated_pixel_data"),
        ("PhotometricInterpretation", "RGB", "colour"),
        ("FrameOfReferenceUID", "1.2", "mixed_frame_of_reference"),
    ],
)
def test_one_bad_instance_refuses_its_series(tmp_path, keyword, value, reason):
    datasets = instances(rescale=(1.0, 0.0))
    setattr(datasets[2], keyword, value)
    write_instances(datasets, tmp_path)
    found = triage(tmp_path)
    assert (found.volumes, reasons(found)) == ((), [reason])
    assert found.rejections[0].instances == 5
    assert found.rejections[0].remedy


@pytest.mark.usefixtures("in_process")
def test_a_missing_slice_is_refused_and_a_copy_noted(tmp_path):
    datasets = instances()
    write_instances(datasets, tmp_path / "a")
    copy2(tmp_path / "a" / "0003.dcm", tmp_path / "a" / "copy")
    (volume,) = triage(tmp_path / "a").volumes
    assert volume.notes == ("1 left out: duplicate with equal pixels",)
    write_instances(datasets[:2] + datasets[3:], tmp_path / "b")
    found = triage(tmp_path / "b")
    assert reasons(found) == ["missing_slices"]
    assert found.rejections[0].message.endswith("1 missing in 1 gap(s) of up to 5 mm.")
    assert found.refusals == found.rejections, "published bundles ask for @triage.refusals"


@pytest.mark.usefixtures("in_process")
def test_volumes_of_one_series_get_numbers(tmp_path):
    for echo in (1, 2):
        datasets = instances()
        for index, dataset in enumerate(datasets):
            dataset.EchoNumbers = echo
            dataset.SOPInstanceUID = f"1.{echo}.{index}"
        write_instances(datasets[: 4 if echo == 1 else 1], tmp_path / str(echo))
    found = triage(tmp_path)
    assert [v.name[-2:] for v in found.volumes] == ["_1"]
    assert [(r.name[-2:], r.reason.value) for r in found.rejections] == [("_2", "too_few_slices")]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("keyword", "values", "what"),
    [
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]), "ImageType"),
        ("EchoNumbers", (1, 2), "EchoNumbers"),
    ],
)
@pytest.mark.parametrize("order", ["in turn", "one half after the other"])
def test_one_stack_of_two_kinds_is_never_taken_for_two_volumes(
    tmp_path, keyword, values, what, order
):
    datasets = instances()
    for number, dataset in enumerate(datasets):
        second = number % 2 if order == "in turn" else number // 3
        setattr(dataset, keyword, values[second])
    write_instances(datasets, tmp_path)
    found = triage(tmp_path)
    assert found.volumes == ()
    (rejection,) = found.rejections
    assert rejection.reason == Reason.SPLIT_STACK
    assert f"found 2 that differ in {what};" in rejection.message
    assert rejection.instances == 5


@pytest.mark.usefixtures("in_process")
def test_echoes_at_the_same_places_are_volumes_that_say_so(tmp_path):
    datasets = [*instances(), *instances()]
    for number, dataset in enumerate(datasets):
        dataset.EchoNumbers = 1 + number // 5
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number + 1}"
    write_instances(datasets, tmp_path, has_plain_names=False)
    found = triage(tmp_path)
    assert [volume.notes for volume in found.volumes] == [
        ("one of 2 parts of its series that differ in EchoNumbers",)
    ] * 2


@pytest.mark.usefixtures("in_process")
def test_a_series_of_mosaics_is_named_once(tmp_path):
    datasets = instances()
    for number, dataset in enumerate(datasets):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        dataset.AcquisitionNumber = number
    write_instances(datasets, tmp_path)
    found = triage(tmp_path)
    assert reasons(found) == ["mosaic"]
    assert "In 5 of 5 instance(s)" in found.rejections[0].message
    assert "dcm2niix" in found.rejections[0].remedy


@pytest.mark.usefixtures("in_process")
def test_what_is_wrong_with_every_part_of_a_series_is_said_once(tmp_path):
    datasets = instances()[:3]
    for number, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = datasets[0].ImagePositionPatient
        dataset.TemporalPositionIdentifier = number
        dataset.PixelData = bytes([number]) + dataset.PixelData[1:]
    write_instances(datasets, tmp_path)
    found = triage(tmp_path)
    (rejection,) = found.rejections
    assert rejection.reason == Reason.TOO_FEW_SLICES
    assert rejection.message.startswith("In each of 3 parts: ")
    assert rejection.instances == 3


UNCLEAR = "the patient's text does not fit its character set: it may be altered"


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("declared", "name", "notes"),
    [
        ("ISO_IR 192", "M\u00fcller".encode(), ()),
        ("ISO_IR 100", "M\u00fcller".encode("latin-1"), ()),
        ("ISO_IR 144", "\u041c\u0430\u0440\u0438\u044f".encode("iso8859-5"), ()),
        ("ISO_IR 13", b"\xd4\xb2", ()),  # katakana, by chance UTF-8 too
        ("ISO_IR 100", "M\u00fcller".encode(), (UNCLEAR,)),
        ("ISO_IR 144", "\u041c\u0430\u0440".encode(), (UNCLEAR,)),
        ("ISO_IR 100", "\u0160koda".encode("cp1252"), (UNCLEAR,)),
        ("ISO_IR 192", "M\u00fcller".encode("latin-1"), (UNCLEAR,)),
        ("ISO_IR 6", "M\u00fcller".encode("latin-1"), (UNCLEAR,)),
        ("", "M\u00fcller".encode(), (UNCLEAR,)),
        ("NO SUCH SET", "M\u00fcller".encode(), (UNCLEAR,)),
        ("NO SUCH SET", b"Mueller", ()),
    ],
)
def test_a_wrongly_declared_character_set_is_noted(tmp_path, declared, name, notes):
    text = name.ljust(8)
    padded = declared.encode().ljust(len(declared) + len(declared) % 2)
    datasets = instances()
    for dataset in datasets:
        dataset.SpecificCharacterSet = "ISO_IR 6"
        dataset.PatientName = "*" * 8
    for file in write_instances(datasets, tmp_path):
        head = b"\x08\x00\x05\x00CS"
        content = file.read_bytes().replace(b"*" * 8, text)
        before = head + b"\x08\x00ISO_IR 6"
        assert before in content
        after = head + len(padded).to_bytes(2, "little") + padded
        file.write_bytes(content.replace(before, after))
    (volume,) = triage(tmp_path).volumes
    assert volume.notes == notes


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("keyword", ["TransferSyntaxUID", "SOPClassUID"])
def test_text_in_place_of_a_uid_reaches_neither_log_nor_output(tmp_path, caplog, keyword):
    planted = b"JANE^DOE 1970 SECRET"
    for file in write_instances(instances(), tmp_path):
        dataset = pydicom.dcmread(file)
        uid = dataset.file_meta.TransferSyntaxUID if "Syntax" in keyword else dataset.SOPClassUID
        old = uid.encode().ljust(len(uid) + len(uid) % 2, b"\0")
        new = planted.ljust(len(old))[: len(old)]
        file.write_bytes(file.read_bytes().replace(old, new))
    with caplog.at_level(1):
        found = triage(tmp_path)
    shown = io.StringIO()
    Console(file=shown, width=200).print(render_table(found))
    assert found.volumes == ()
    assert found.rejections
    assert "JANE" not in caplog.text + found.to_json(phi="keep") + shown.getvalue()


@pytest.mark.usefixtures("in_process")
def test_links_out_of_the_folder_are_not_followed(tmp_path):
    write_instances(instances(), tmp_path / "mine")
    other = instances()
    for dataset in other:
        dataset.SeriesInstanceUID = "1.2.3"
    files = write_instances(other, tmp_path / "theirs")
    (tmp_path / "mine" / "folder").symlink_to(tmp_path / "theirs")
    (tmp_path / "mine" / "file").symlink_to(files[0])
    found = triage(tmp_path / "mine")
    assert len(found.volumes) == 1
    (rejection,) = found.rejections
    assert (rejection.reason, rejection.instances) == (Reason.UNREADABLE, 2)
    assert "Link must stay within the folder" in rejection.message
    (tmp_path / "alias").symlink_to(tmp_path / "mine")
    assert len(triage(tmp_path / "alias").volumes) == 1


@pytest.mark.usefixtures("in_process")
def test_a_deep_tree_is_walked_to_its_end(tmp_path):
    files = write_instances(instances(), tmp_path / "series")
    folders = [tmp_path / "d"]
    for _ in range(1500):
        folders[-1].mkdir()
        folders.append(folders[-1] / "d")
    deep = [file.rename(folders[-2] / file.name) for file in files]
    try:
        assert len(triage(tmp_path).volumes) == 1
    finally:  # pytest's own way to remove folders recurses too
        for file in deep:
            file.unlink()
        for folder in reversed(folders[:-1]):
            folder.rmdir()


@pytest.mark.usefixtures("in_process")
def test_series_without_frame_of_reference_can_be_allowed(tmp_path):
    datasets = instances()
    for dataset in datasets:
        del dataset.FrameOfReferenceUID
    write_instances(datasets, tmp_path)
    assert reasons(triage(tmp_path)) == ["no_frame_of_reference"]
    allowed = triage(tmp_path, selection=Selection(require_frame_of_reference=False))
    assert allowed.volumes[0].frame_of_reference_uid == ""


@pytest.mark.usefixtures("in_process")
def test_two_series_are_never_merged(tmp_path):
    for series in (1, 2):
        write_instances(instances(series=series), tmp_path / str(series))
    assert len(triage(tmp_path).volumes) == 2
    found = triage(tmp_path, selection=Selection(modality=("MR",)))
    assert reasons(found) == ["ambiguous_selection"] * 2


@pytest.mark.usefixtures("in_process")
def test_stacks_and_time_points_of_one_file_are_volumes_of_their_own(tmp_path):
    (dataset,) = instances(is_enhanced=True)
    for index, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        content = frame.FrameContentSequence[0]
        content.StackID = "1" if index < 3 else "2"
    write_instances([dataset], tmp_path / "stacks")
    assert [len(v.frames) for v in triage(tmp_path / "stacks").volumes] == [3, 2]
    (dataset,) = instances(is_enhanced=True)
    frames = dataset.PerFrameFunctionalGroupsSequence
    for index, frame in enumerate(frames):
        frame.FrameContentSequence[0].TemporalPositionIndex = index // 2 + 1
        frame.PlanePositionSequence = frames[index % 2].PlanePositionSequence
    dataset.NumberOfFrames = 4
    dataset.PerFrameFunctionalGroupsSequence = frames[:4]
    write_instances([dataset], tmp_path / "times")
    volumes = triage(tmp_path / "times").volumes
    assert [[f.number for f in v.frames] for v in volumes] == [[1, 2], [3, 4]]


def test_an_unreadable_file_is_refused_and_noted_on_what_lies_beside_it(tmp_path):
    files = write_instances(instances(), tmp_path)
    files[4].write_bytes(files[4].read_bytes()[:600])
    found = triage(tmp_path)
    assert reasons(found) == ["unreadable"]
    assert re.fullmatch(r"file_[0-9a-f]{16}", found.rejections[0].name)
    (volume,) = found.volumes
    assert volume.notes == (
        "1 file(s) beside it could not be read: slices at its ends may be missing",
    )


def test_nothing_that_is_written_names_the_patient(tmp_path, caplog):
    datasets = instances(description=SECRET, body_part="SECRETPART")
    uid = "1.2.3/../../../etc/passwd"
    for dataset in datasets:
        dataset.PatientName = dataset.StudyDescription = SECRET
        with pytest.warns(UserWarning, match="Invalid value for VR UI"):
            dataset.SeriesInstanceUID = uid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
        write_instances(datasets, tmp_path / SECRET)
    bad = instances(series=2, description=SECRET)
    bad[0].PixelSpacing = [1, 0]
    write_instances(bad, tmp_path / SECRET / "bad")
    (tmp_path / SECRET / "cut").write_bytes((tmp_path / SECRET / "0001.dcm").read_bytes()[:500])
    caplog.clear()  # of what pydicom said when it wrote this
    found = triage(tmp_path)
    shown = io.StringIO()
    Console(file=shown, width=300).print(render_table(found))
    printed = shown.getvalue()
    text = found.to_json() + printed + caplog.text
    assert len(found.volumes) == 1
    assert len(found.rejections) == 2
    assert SECRET not in text
    assert "SECRETPART" not in text
    assert uid not in text
    assert datasets[0].StudyInstanceUID not in text
    for name in (found.volumes[0].name, "invalid_geometry", "unreadable", "accepted"):
        assert name in printed
    assert uid in json.loads(found.to_json(phi="keep"))["volumes"][0]["series_uid"]
    with pytest.raises(ValueError, match="phi must be 'hash' or 'keep', got 'show'"):
        found.to_json(phi="show")


def test_every_file_of_pydicom_ends_in_acceptance_or_rejection(tmp_path):
    shipped = Path(pydicom.__file__).parent / "data" / "test_files"
    files = [file for file in sorted(shipped.rglob("*")) if file.is_file()]
    local = [file for file in files if file.stat().st_size < 2**22]
    assert len(local) > 100
    for index, file in enumerate(local):
        copy2(file, tmp_path / f"{index}")
    found = triage(tmp_path)
    assert len(found.volumes) + len(found.rejections) > 30
    codes = set(reasons(found))
    assert {"deflated", "unreadable", "secondary_capture", "not_an_image"} <= codes


def test_headers_are_read_in_one_subprocess(tmp_path, monkeypatch):
    files = write_instances(instances(), tmp_path)
    started = []
    original = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(1) or original(*args, **kwargs)
    )
    assert len(list(read_headers(files, limits=Limits()))) == 5
    assert started == [1]


@pytest.mark.realdata
def test_the_real_series_are_accepted(shared_data):
    found = triage(shared_data / "dicom_prostate")
    assert found.rejections == ()
    assert sorted(len(volume.frames) for volume in found.volumes) == [19, 60]


def test_the_reference_lists_exactly_the_codes(repository):
    page = (repository / "docs" / "reference" / "dicom-reasons.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_]+)` \|", page, re.M)
    assert sorted(listed) == sorted(reason.value for reason in Reason)
    assert len(listed) == len(set(listed))


def _dicomdir() -> bytes:
    dataset = instances()[0]
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.SOPClassUID = "1.2.840.10008.1.3.10"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_a_table_for_a_person_says_where_a_series_lies_and_no_other_does(tmp_path, in_process):
    options = SeriesOptions(description=f"t2 {SECRET}")
    write_series(tmp_path / "ward" / "one", IMAGE, AFFINE, options=options)
    found = triage(tmp_path)
    shown = {}
    for has_places in (True, False):
        file = io.StringIO()
        Console(file=file, width=200).print(render_table(found, has_places=has_places))
        shown[has_places] = file.getvalue()
    assert f"ward/one: t2 {SECRET}" in shown[True]
    assert SECRET not in shown[False]
    assert "ward" not in shown[False]
    assert SECRET not in found.to_json(phi="keep")
