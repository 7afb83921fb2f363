"""The study whose views agree least comes first, under a name that shows its light."""

from types import SimpleNamespace

import pytest

from grata_monai.hosts.label.worklist import (
    STRATEGY,
    LeastAgreement,
    extend_app,
    note,
    take_original,
)


class Studies:
    """As much of MONAI Label's datastore as is asked for."""

    def __init__(self, *names):
        self.facts = {name: {} for name in names}
        self.labelled = set()

    def list_images(self):
        return list(self.facts)

    def get_unlabeled_images(self, tag, labels):
        assert tag == "final"
        return [name for name in self.facts if name not in self.labelled]

    def get_image_info(self, name):
        return self.facts[name]

    def update_image_info(self, name, facts):
        self.facts[name].update(facts)


def answer(light, agreement):
    record = {"verdict": {"agreement": agreement}}
    return {"light": light, "verdict": "Looked again.", "record": record}


@pytest.fixture
def studies():
    found = Studies("b", "a", "unsure", "sure", "empty")
    note(found, "sure", answer("green", 0.97))
    note(found, "unsure", answer("red", 0.41))
    note(found, "empty", answer("red", None))
    return found


def test_the_least_agreed_comes_first_and_what_nobody_segmented_last(studies):
    order = []
    while (chosen := LeastAgreement()({}, studies)) is not None:
        order.append(chosen["id"])
        studies.labelled.add(chosen["id"])
    assert order == ["empty", "unsure", "sure", "a", "b"]


@pytest.mark.parametrize(
    "facts",
    [7, "a", {"agreement": "a"}, {"agreement": 10**400}, {"agreement": float("nan")}, {}, [0]],
)
def test_facts_that_a_client_has_overwritten_do_not_stop_the_worklist(studies, facts):
    studies.update_image_info("empty", {"grata": facts})
    assert LeastAgreement()({}, studies) == {"id": "unsure"}


def test_a_study_is_shown_under_its_light(studies):
    assert studies.facts["unsure"]["PatientID"] == "RED unsure"
    assert studies.facts["sure"]["grata"] == {
        "light": "green",
        "verdict": "Looked again.",
        "agreement": 0.97,
    }


def test_uploads_and_answers_without_a_record_are_not_noted(studies):
    before = {name: dict(facts) for name, facts in studies.facts.items()}
    note(studies, "/uploads/volume.nii.gz", answer("red", 0.1))
    note(studies, "a", {"label_names": {}})
    assert studies.facts == before


def test_every_adapting_model_gets_one_with_the_original_s_mask():
    task = SimpleNamespace(labels={"prostate": 1}, description="", config=lambda: {"adapt": True})
    other = SimpleNamespace(labels={"spleen": 1}, description="", config=dict)
    app = SimpleNamespace(_strategies={"first": 1}, _infers={"m": task, "other": other})
    extend_app(app)
    assert list(app._strategies) == [STRATEGY, "first"]
    assert list(app._infers) == ["m", "other", "m_original"]
    assert app._infers["m_original"].labels == {"prostate, original network": 1}
    assert task.labels == {"prostate": 1}


def test_the_original_s_mask_is_asked_for_without_adaptation():
    assert take_original({"model": "m_original", "adapt": True}) == {
        "model": "m_original",
        "adapt": False,
    }
    assert take_original({"model": "m", "adapt": True}) == {"model": "m", "adapt": True}
