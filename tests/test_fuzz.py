"""Targets of fuzzing: good content passes, changed content finds nothing, and judges do judge."""

import importlib.util
import random
import signal
import sys
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from fuzz_dicom import DICOM
from fuzz_images import IMAGES
from fuzz_texts import CONFIGURATIONS, HIT, RECIPES_AS_JSON, RECORDS, SELECTIONS
from fuzz_web import DICOMWEB
from fuzzing import mutate

SPEC = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent / "measure" / "fuzz.py")
fuzz = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz)

GOOD = {"images": "read", "dicom": "read", "dicomweb": "fetched", "records": "read"}
GOOD |= {"recipes": "read", "selections": "read"}
TARGETS = {
    "images": (IMAGES, 2),
    "dicom": (DICOM, 40),
    "dicomweb": (DICOMWEB, 20),
    "records": (RECORDS, 300),
    "recipes": (RECIPES_AS_JSON, 300),
    "selections": (SELECTIONS, 300),
    "configurations": (CONFIGURATIONS, 40),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n.startswith("dicom") else n for n in TARGETS],
)
def test_good_content_is_taken_and_changed_content_finds_nothing(name, tmp_path):
    target, tries = TARGETS[name]
    generator = random.Random(0)
    with target.open(tmp_path) as judge:
        if name in GOOD:
            for seed in list(target.seeds)[:3]:
                assert judge(seed, target.seeds[seed]) == (GOOD[name], "")
        for _ in range(tries):
            seed = generator.choice(list(target.seeds))
            content = mutate(target.seeds[seed], generator, target.tokens)
            assert judge(seed, content)[1] == "", content


def test_of_the_configurations_only_the_harmless_one_is_clean(tmp_path):
    with CONFIGURATIONS.open(tmp_path) as judge:
        answers = [judge(seed, content)[0] for seed, content in CONFIGURATIONS.seeds.items()]
    assert answers == ["clean"] + ["refused"] * (len(answers) - 1)


def test_code_that_runs_in_a_clean_configuration_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz_texts.check_bundle", lambda folder: [])
    with CONFIGURATIONS.open(tmp_path) as judge:
        found = judge("1", CONFIGURATIONS.seeds["1"])
    assert found == ("clean", "code of a bundle without findings runs")
    assert HIT not in sys.modules


def test_an_error_of_the_parser_that_is_not_ours_is_a_finding(tmp_path, monkeypatch):
    def fail(request):
        raise ValueError

    monkeypatch.setattr("grata_monai.read.dicom.headers.parse_header", fail)
    with DICOM.open(tmp_path) as judge:
        assert judge("explicit", b"")[1] == "ValueError in parser or decoder"


def test_a_voxel_that_is_not_finite_is_a_finding(tmp_path, monkeypatch):
    original = sys.modules["fuzz_dicom"].read_volume

    def spoil(volume, *, limits):
        image = original(volume, limits=limits)
        image[..., 0] = np.nan
        return image

    monkeypatch.setattr("fuzz_dicom.read_volume", spoil)
    with DICOM.open(tmp_path) as judge:
        assert judge("explicit", DICOM.seeds["explicit"])[1] == "an impossible image"


def test_a_list_that_lost_an_instance_is_refused_by_its_count(tmp_path):
    content = DICOMWEB.seeds["instances"]
    head, body = content.split(b"\r\n\r\n")
    shorter = body[: body.index(b"}, {") + 1] + b"]"
    head = head.replace(str(len(body)).encode(), str(len(shorter)).encode())
    with DICOMWEB.open(tmp_path) as judge:
        assert judge("instances", head + b"\r\n\r\n" + shorter) == ("TransferError", "")


def test_a_record_with_an_infinite_number_is_refused(tmp_path):
    content = RECORDS.seeds["adapted"].replace(b'"volume_ratio": 1.03', b'"volume_ratio": 1e999')
    assert content != RECORDS.seeds["adapted"]
    with RECORDS.open(tmp_path) as judge:
        assert judge("adapted", content) == ("RecordError", "")


def test_memory_and_errors_of_others_are_findings():
    def fail(name, content):
        raise TimeoutError

    assert fuzz.ask(fail, "a", b"", 2**60) == ("TimeoutError", "an error that is not ours")
    assert fuzz.ask(lambda name, content: ("read", ""), "a", b"", 2**60) == ("read", "")
    assert fuzz.ask(lambda name, content: ("read", ""), "a", b"", 1) == ("read", "too much memory")


def test_what_hangs_is_ended_and_told(monkeypatch):
    monkeypatch.setattr(fuzz, "HANG", 0.2)
    monkeypatch.setattr(fuzz, "SLOW", 0.1)
    before = signal.signal(signal.SIGALRM, fuzz.stop)
    try:
        answer = fuzz.ask(lambda name, content: sleep(60), "a", b"", 2**60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert answer == ("TimeoutError", "too slow")
