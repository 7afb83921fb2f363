"""What is refused now has no results of an earlier run beside it."""

import os

from outputs import write_volume

from grata_monai.core.failures import CaseFailure
from grata_monai.read.dicom.rejection import Reason, Rejection
from grata_monai.read.dicom.triage import Triage
from grata_monai.write.dicom.refused import write_refused


def test_results_of_a_series_that_is_refused_or_fails_now_are_removed(tmp_path, make_volume):
    volume = make_volume()
    names = ["series_1", "series_1_2", "series_1_more", "series_12", volume.name, "failed"]
    for name in names:
        write_volume(tmp_path, name)
    rejection = Rejection(
        name="series_1", reason=Reason.MISSING_SLICES, message="", remedy="", instances=1
    )
    failure = CaseFailure("failed", "OSError", "no space")
    write_refused(Triage((volume,), (rejection,), 0), tmp_path, [failure])
    kept = {"series_1_more", "series_12", volume.name, "refused.json"}
    assert {*os.listdir(tmp_path)} == kept
