"""What untrusted bytes can do in the sandbox ends in a typed refusal, and is not heard outside."""

import importlib.util
import io
import json
import signal
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from grata_monai.core import worker
from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.sandbox import run_each, run_parts, run_sandboxed

MEBIBYTE = 2**20
LIMITS = Limits(memory_bytes=512 * MEBIBYTE, seconds=1, header_bytes=MEBIBYTE)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")

BOXED = """
import logging, os, sys, time, warnings
from pathlib import Path
import numpy as np

class DicomError(Exception):
    __module__ = "grata_monai.core.errors"

    def __init__(self, message, reason):
        super().__init__(message)
        self.reason = reason

def echo(values): return dict(values)
def list_modules(values): return {"modules": sorted(sys.modules)}
def fill_memory(values): return {"n": len(bytearray(values.get("size", 2**33)))}
def send_signal(values): os.kill(os.getpid(), values["signal"])
def spin(values):
    while True: pass
def wait(values): time.sleep(100)
def talk(values):
    print("JANE DOE"); os.write(1, b"JANE DOE"); os.write(2, b"JANE DOE")
    warnings.warn("JANE DOE"); logging.error("JANE DOE"); sys.stdout.flush()
    return {"said": True}
def fail(values): raise ValueError("JANE DOE")
def refuse(values): raise DicomError("rule. Remedy.", values["reason"])
def count(values):
    for i in range(values["count"]):
        if i == values.get("fail_at"): raise KeyError("JANE DOE")
        yield {"i": i, "plane": np.full((2, 3), i, np.int16)}
def write(values):
    with open(values["path"], "wb") as file: file.write(b"x" * 10)
    return {}
def shout(values): return {"text": "x" * 2**22}
def flood(values): return {"array": np.zeros(2**26, np.float64)[:values["size"]]}
def lie(values):
    for pipe in range(3, 9):
        try: os.write(pipe, bytes(7) + bytes([1]) + b"{")
        except OSError: pass
    time.sleep(100)
def by_number(values):
    number = values["number"]
    if number == 2: os.abort()
    if number == 4: fail(values)
    if number == 5: fill_memory(values)
    if number == 7: spin(values)
    return {"number": number, "process": os.getpid()}
"""


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """Functions in a file of their own, as the sandbox wants them."""
    path = tmp_path_factory.mktemp("code") / "boxed_functions.py"
    path.write_text(textwrap.dedent(BOXED))
    spec = importlib.util.spec_from_file_location("boxed_functions", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["boxed_functions"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["boxed_functions"]


def test_values_and_arrays_come_back_as_they_went(boxed):
    values = {
        "text": "Ä\udc80",  # a file name that is no UTF-8
        "numbers": [1, 2.5, None, True, float("inf")],
        "array": np.arange(6, dtype=">i2").reshape(2, 3).T,
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(3.0),
    }
    returned = run_sandboxed(boxed.echo, values, limits=LIMITS)
    assert returned.keys() == values.keys()
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            assert returned[name].dtype == value.dtype
            assert returned[name].shape == value.shape
            np.testing.assert_array_equal(returned[name], value)
        else:
            assert returned[name] == value


def test_neither_torch_nor_monai_is_imported(boxed):
    modules = run_sandboxed(boxed.list_modules, {}, limits=LIMITS)["modules"]
    assert not {"torch", "monai", "grata_monai"} & set(modules)


def test_functions_of_ours_load_without_their_packages():
    from grata_monai.read.dicom.decode import decode_files

    assert list(run_parts(decode_files, {"files": []}, limits=LIMITS)) == []


@needs_linux
def test_memory_above_the_limit_is_refused_and_does_not_reach_us(boxed):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DicomError, match="at most 536870912 bytes of memory, it needs") as caught:
        run_sandboxed(boxed.fill_memory, {}, limits=LIMITS, subject="it")
    assert caught.value.reason == Reason.OVER_DECODING_LIMIT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.mark.parametrize("function", ["spin", "wait"])
def test_time_above_the_limit_is_refused(boxed, function):
    with pytest.raises(DicomError, match=r"take at most 0\.3 s, a file took longer") as caught:
        run_sandboxed(getattr(boxed, function), {}, limits=Limits(seconds=0.3))
    assert caught.value.reason == Reason.OVER_DECODING_LIMIT


@needs_linux
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SIGKILL", Reason.OVER_DECODING_LIMIT),  # what the system does when memory runs out
        ("SIGXCPU", Reason.OVER_DECODING_LIMIT),
        ("SIGSEGV", Reason.UNDECODABLE),
        ("SIGABRT", Reason.UNDECODABLE),
    ],
)
def test_a_killed_subprocess_is_a_rejection(boxed, name, reason):
    values = {"signal": int(getattr(signal, name))}
    with pytest.raises(DicomError, match=r"a file") as caught:
        run_sandboxed(boxed.send_signal, values, limits=LIMITS)
    assert caught.value.reason == reason


def test_nothing_that_is_said_inside_is_heard(boxed, capfd, caplog):
    assert run_sandboxed(boxed.talk, {}, limits=LIMITS) == {"said": True}
    with pytest.raises(DicomError, match=r"a file is not \(ValueError\)") as caught:
        run_sandboxed(boxed.fail, {}, limits=LIMITS)
    heard = "".join(capfd.readouterr()) + caplog.text + repr(caught.value)
    assert "JANE" not in heard


def test_our_own_refusals_pass_with_their_reason(boxed):
    with pytest.raises(DicomError, match=r"rule\. Remedy\.") as caught:
        run_sandboxed(boxed.refuse, {"reason": "deflated"}, limits=LIMITS)
    assert caught.value.reason == Reason.DEFLATED


def test_a_reason_that_does_not_exist_is_no_refusal_of_ours(boxed):
    with pytest.raises(DicomError, match="a file is not") as caught:
        run_sandboxed(boxed.refuse, {"reason": "jane_doe"}, limits=LIMITS)
    assert caught.value.reason == Reason.UNDECODABLE


def test_parts_come_one_after_the_other(boxed):
    parts = list(run_parts(boxed.count, {"count": 3}, limits=LIMITS))
    assert [part["i"] for part in parts] == [0, 1, 2]
    assert [int(part["plane"].max()) for part in parts] == [0, 1, 2]


def test_parts_before_a_failure_are_there(boxed):
    parts = run_parts(boxed.count, {"count": 5, "fail_at": 2}, limits=LIMITS)
    assert [next(parts)["i"], next(parts)["i"]] == [0, 1]
    with pytest.raises(DicomError, match=r"\(KeyError\)"):
        next(parts)


@needs_linux
def test_leaving_early_ends_the_subprocess(boxed):
    children = set(list_children())
    parts = run_parts(boxed.count, {"count": 10**9}, limits=LIMITS)
    next(parts)
    assert set(list_children()) - children
    parts.close()
    assert set(list_children()) == children


def list_children():
    children = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            children += (task / "children").read_text().split()
    return children


@needs_linux
def test_files_cannot_be_written_inside(boxed, tmp_path):
    with pytest.raises(DicomError, match="a file is not"):
        run_sandboxed(boxed.write, {"path": str(tmp_path / "a")}, limits=LIMITS)
    assert not (tmp_path / "a").exists() or (tmp_path / "a").stat().st_size == 0


def test_an_answer_above_the_limits_is_not_taken(boxed):
    with pytest.raises(DicomError, match="answer within the limits") as caught:
        run_sandboxed(boxed.shout, {}, limits=LIMITS)
    assert caught.value.reason == Reason.OVER_DECODING_LIMIT
    small = Limits(pixel_budget_bytes=1000)
    with pytest.raises(DicomError, match="answer within the limits"):
        run_sandboxed(boxed.flood, {"size": 126}, limits=small)
    assert run_sandboxed(boxed.flood, {"size": 125}, limits=small)["array"].nbytes == 1000


@needs_linux
def test_an_answer_that_is_no_message_is_refused(boxed):
    with pytest.raises(DicomError, match="answer within the limits"):
        run_sandboxed(boxed.lie, {}, limits=LIMITS)


@needs_linux
@pytest.mark.parametrize("is_ahead", [False, True])
def test_each_item_has_its_own_end_and_the_rest_goes_on(boxed, is_ahead):
    items = ({"number": number} for number in range(10))
    results = list(run_each(boxed.by_number, items, limits=LIMITS, is_ahead=is_ahead))
    failed = {i: r.reason for i, r in enumerate(results) if isinstance(r, DicomError)}
    assert failed == {
        2: Reason.UNDECODABLE,  # aborted
        4: Reason.UNDECODABLE,  # raised
        5: Reason.OVER_DECODING_LIMIT,  # memory
        7: Reason.OVER_DECODING_LIMIT,  # time
    }
    numbers = [r["number"] for r in results if not isinstance(r, DicomError)]
    assert numbers == [0, 1, 3, 6, 8, 9]
    processes = [r["process"] for r in results if not isinstance(r, DicomError)]
    assert len(set(processes)) == 3  # a new one after the abort, and after the endless loop


def test_no_item_starts_no_subprocess(boxed):
    assert list(run_each(boxed.echo, [], limits=LIMITS)) == []


def test_a_module_that_cannot_be_loaded_is_named(tmp_path):
    path = tmp_path / "broken_functions.py"
    path.write_text("def f(values): return values\n")
    spec = importlib.util.spec_from_file_location("broken_functions", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["broken_functions"] = module
    spec.loader.exec_module(module)
    path.write_text("import not_installed_anywhere\n")
    with pytest.raises(RuntimeError, match=r"load broken_functions, .*ModuleNotFoundError"):
        run_sandboxed(module.f, {}, limits=LIMITS)
    del sys.modules["broken_functions"]


def test_secrets_of_the_environment_stay_outside(boxed, monkeypatch, tmp_path):
    monkeypatch.setenv("DICOMWEB_TOKEN", "secret")
    path = tmp_path / "environment_functions.py"
    path.write_text("import os\ndef tell(values): return {'names': sorted(os.environ)}\n")
    spec = importlib.util.spec_from_file_location("environment_functions", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "environment_functions", module)
    spec.loader.exec_module(module)
    assert "DICOMWEB_TOKEN" not in run_sandboxed(module.tell, {}, limits=LIMITS)["names"]


@pytest.mark.parametrize(
    "head",
    [
        b"no JSON",
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps({"values": {}, "arrays": [["a", "O", [1]]]}).encode(),
        json.dumps({"values": {}, "arrays": [["a", "<M8[s]", [1]]]}).encode(),
        json.dumps({"values": {}, "arrays": [["a", "<f4", [-1]]]}).encode(),
        json.dumps({"values": {}, "arrays": [["a", "<f4", [2**40, 2**40]]]}).encode(),
        json.dumps({"values": {}, "arrays": [["a", "<f4", [1.5]]]}).encode(),
        json.dumps({"values": {}, "arrays": [["a", 4, [1]]]}).encode(),
    ],
)
def test_a_forged_message_is_no_message(head):
    stream = io.BytesIO(len(head).to_bytes(8, "big") + head + b"\0" * 64)
    with pytest.raises(worker.MessageError):
        worker.receive(stream, text_bytes=MEBIBYTE, array_bytes=MEBIBYTE)


def test_a_cut_message_is_an_end():
    stream = io.BytesIO()
    worker.send(stream, {"a": np.ones(10)})
    for length in (0, 4, 20, len(stream.getvalue()) - 1):
        with pytest.raises(EOFError):
            worker.receive(
                io.BytesIO(stream.getvalue()[:length]), text_bytes=MEBIBYTE, array_bytes=MEBIBYTE
            )


def test_objects_are_not_sent():
    with pytest.raises(TypeError, match="array 'a' must hold numbers, got object"):
        worker.send(io.BytesIO(), {"a": np.array([object()])})
