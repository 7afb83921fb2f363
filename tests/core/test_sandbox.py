"""What happens in the subprocess comes out as it is: values, our own refusals, or a failure."""

import importlib.util
import os
import signal
import sys
from dataclasses import replace

import pytest

from grata_monai.core import sandbox
from grata_monai.core.errors import DicomError, GeometryError
from grata_monai.core.limits import MEBIBYTE, Limits
from grata_monai.core.sandbox import SandboxError, run_each, run_parts, run_sandboxed

LIMITS = Limits(memory_bytes=512 * MEBIBYTE, seconds=10.0)
CODE = """
import os, sys, time

def make(name, module, text):
    return type(name, (Exception,), {"__module__": module})(text)

def refuse(values): raise make(values["name"], values["module"], "rule. Remedy.")
def send(values): yield {"content": b"\\x00\\x07", "has_numpy": "numpy" in sys.modules}
def dawdle(values):
    for number in range(100):
        time.sleep(0.05)
        yield {"number": number}
def tell(values): return {"process": os.getpid()}
def tell_too(values): return tell(values)
def swallow(values): return {"size": len(bytearray(2**30))}
"""


@pytest.fixture
def boxed(tmp_path, monkeypatch):
    path = tmp_path / "core_functions.py"
    path.write_text(CODE)
    spec = importlib.util.spec_from_file_location("core_functions", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "core_functions", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", [GeometryError, DicomError])
def test_our_own_refusals_come_out_as_they_are(boxed, kind):
    values = {"name": kind.__name__, "module": "grata_monai.core.errors"}
    with pytest.raises(kind, match=r"rule\. Remedy\.") as caught:
        run_sandboxed(boxed.refuse, values, limits=LIMITS)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("GeometryError", "somewhere.else"),
        ("OutputError", "grata_monai.core.errors"),  # of no case
        ("find_root", "grata_monai.core.errors"),
        ("ValueError", "builtins"),
    ],
)
def test_the_text_of_other_errors_stays_inside(boxed, name, module):
    with pytest.raises(SandboxError, match=r"^a file is not \(\w+\)$") as caught:
        run_sandboxed(boxed.refuse, {"name": name, "module": module}, limits=LIMITS)
    assert not caught.value.is_over_limit


def test_bytes_come_as_an_array_and_need_no_numpy_inside(boxed):
    (part,) = run_parts(boxed.send, {}, limits=LIMITS)
    assert part["content"].tolist() == [0, 7]
    assert part["has_numpy"] is False


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_each_item_ends_in_a_result_or_in_its_error(boxed):
    (found,) = run_each(boxed.swallow, [{}], limits=LIMITS)
    assert isinstance(found, SandboxError)
    assert found.is_over_limit
    assert "at most 536870912 bytes of memory" in str(found)


def test_parts_that_each_come_in_time_must_also_do_so_together(boxed):
    limits = replace(LIMITS, case_seconds=0.3)
    parts = run_parts(boxed.dawdle, {}, limits=limits, subject="'a.dcm'")
    assert next(parts)["number"] == 0
    with pytest.raises(
        SandboxError, match=r"take at most 0\.3 s in all, 'a\.dcm' took longer"
    ) as late:
        list(parts)
    assert late.value.is_over_limit


@pytest.fixture
def spares(monkeypatch):
    monkeypatch.setattr(sandbox._Spares, "kept", None)
    sandbox.keep_spares()
    kept = sandbox._Spares.kept
    yield kept._started
    for future in kept._started.values():
        future.result().close()
    kept._starter.shutdown()


def test_a_spare_is_started_before_it_is_asked_for_and_serves_one_case(boxed, spares):
    first = run_sandboxed(boxed.tell_too, {}, limits=LIMITS)
    waiting = spares[boxed.tell_too, LIMITS].result().process.pid
    second = run_sandboxed(boxed.tell_too, {}, limits=LIMITS)
    assert second["process"] == waiting != first["process"]
    assert spares[boxed.tell_too, LIMITS].result().process.pid != waiting


def test_a_spare_has_the_limits_and_the_function_that_were_asked_for(boxed, spares):
    run_sandboxed(boxed.tell, {}, limits=LIMITS)
    waiting = spares[boxed.tell, LIMITS].result().process.pid
    assert run_sandboxed(boxed.tell, {}, limits=replace(LIMITS, seconds=9.0))["process"] != waiting
    assert run_sandboxed(boxed.tell_too, {}, limits=LIMITS)["process"] != waiting
    assert run_sandboxed(boxed.tell, {}, limits=LIMITS)["process"] == waiting


def test_a_spare_that_was_killed_is_no_failure_of_the_case(boxed, spares):
    run_sandboxed(boxed.tell, {}, limits=LIMITS)
    waiting = spares[boxed.tell, LIMITS].result().process
    os.kill(waiting.pid, signal.SIGKILL)
    waiting.wait()
    assert run_sandboxed(boxed.tell, {}, limits=LIMITS)["process"] != waiting.pid


def test_few_spares_wait(boxed, spares):
    for seconds in range(1, sandbox.MOST_SPARES + 3):
        run_sandboxed(boxed.tell, {}, limits=replace(LIMITS, seconds=float(seconds)))
    assert len(spares) == sandbox.MOST_SPARES
    assert (boxed.tell, replace(LIMITS, seconds=1.0)) not in spares
