"""Inside Slicer, light and verdict of an answer are shown in the window."""

import runpy
import sys
from types import SimpleNamespace

import pytest

SCRIPT = "grata_monai/hosts/label/assets/slicer_window.py"
ANSWER = {"light": "amber", "verdict": "Looked again.", "report": "/reports/report/a.html"}


@pytest.fixture
def slicer(monkeypatch):
    """What Slicer and its module give the script: two calls, and a client that answers."""
    shown = SimpleNamespace(status=[], boxes=[])
    util = SimpleNamespace(
        showStatusMessage=lambda text, duration: shown.status.append(text),
        infoDisplay=lambda text, **named: shown.boxes.append((named["windowTitle"], text)),
    )

    class Client:
        _server_url = "http://127.0.0.1:8000/"
        answer = ANSWER

        def infer(self, model, image, params=None):
            return "mask.nii.gz", self.answer

    monkeypatch.setitem(sys.modules, "slicer", SimpleNamespace(util=util))
    monkeypatch.setitem(sys.modules, "MONAILabelLib", SimpleNamespace(MONAILabelClient=Client))
    shown.client = Client
    return shown


def test_an_answer_is_shown_and_handed_on(slicer, repository):
    runpy.run_path(str(repository / SCRIPT))
    assert slicer.client().infer("m", "a") == ("mask.nii.gz", ANSWER)
    ((title, text),) = slicer.boxes
    assert title == "! AMBER: look closely"
    assert "Looked again." in text
    assert text.endswith("Report: http://127.0.0.1:8000/reports/report/a.html")
    assert slicer.status == ["! AMBER: look closely. Looked again."]


def test_loaded_twice_it_shows_once_and_other_servers_answers_not_at_all(slicer, repository):
    for _ in range(2):
        runpy.run_path(str(repository / SCRIPT))
    slicer.client().infer("m", "a")
    assert len(slicer.boxes) == 1
    slicer.client.answer = {"label_names": {"spleen": 1}}
    slicer.client().infer("m", "a")
    assert len(slicer.boxes) == 1
