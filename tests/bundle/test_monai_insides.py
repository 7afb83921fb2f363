"""What we take from inside MONAI, where it offers no other way, is as it was when we looked.

If one of these fails after an update of MONAI: look at what the message names, correct it, and only
then widen `SEEN` and docs/decisions/0017-one-door-to-a-bundle.md.
"""

import inspect
import json
from importlib.metadata import version

from monai.bundle import ConfigWorkflow
from monai.engines import SupervisedEvaluator
from packaging.specifiers import SpecifierSet

SEEN = SpecifierSet(">=1.6.1,<1.7")


def test_monai_is_of_a_version_whose_insides_were_seen():
    assert version("monai") in SEEN, (
        f"MONAI {version('monai')} is new here. grata_monai leans on ConfigWorkflow."
        "config_root_path (bundle/workflow.py) and SupervisedEvaluator._iteration (handlers.py, "
        "evaluator.py). See that both are as the tests below expect, then widen SEEN."
    )


def test_a_workflow_knows_the_folder_of_its_configuration_before_it_resolves_it(tmp_path):
    (tmp_path / "inference.json").write_text(json.dumps({"run": []}))
    workflow = ConfigWorkflow(
        str(tmp_path / "inference.json"),
        meta_file=False,
        logging_file=False,
        workflow_type="infer",
    )
    assert str(getattr(workflow, "config_root_path", None)) == str(tmp_path), (
        "ConfigWorkflow no longer keeps its folder in config_root_path. find_bundle_root in "
        "bundle/workflow.py reads it there: find where MONAI keeps it now, or take bundle_root "
        "from MONAI if it sets it at last (model-zoo#466)."
    )


def test_the_evaluators_own_iteration_can_be_called_by_one_given_in_its_place():
    iteration = getattr(SupervisedEvaluator, "_iteration", None)
    names = list(inspect.signature(iteration).parameters) if iteration else None
    assert names == ["self", "engine", "batchdata"], (
        "SupervisedEvaluator._iteration(engine, batchdata) has changed. segment_or_report in "
        "handlers.py, given as iteration_update, calls it so that a failed case does not end the "
        "run; OverlappingEvaluator in evaluator.py, so as to predict ahead: call what runs one "
        "iteration now."
    )
