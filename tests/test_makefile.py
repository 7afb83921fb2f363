"""`make` refuses what cannot be before it installs anything."""

import shutil
import subprocess


def test_studies_that_are_not_there_are_refused_before_an_installation(repository, tmp_path):
    shutil.copy(repository / "Makefile", tmp_path)
    command = ["make", "label", "STUDIES=missing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: STUDIES must be a folder, it is none. Correct the path.")
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
