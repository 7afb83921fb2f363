"""Change at random what strangers send, and look for an answer that is none.

Targets: image files, DICOM series, answers of a DICOMweb service, records, recipes, selections and
configurations of a bundle. Each has its own rules, in ``tests/support/fuzz_*.py``; beside them
every answer must come within seconds and little memory; what hangs is ended after a minute. Run it
with ``make fuzz``::

    python tests/measure/fuzz.py --seconds 300 --seed 0 --targets dicom records

The exit status is 1 if there was a finding; its content is kept in the folder that is named. A
finding becomes a case of ``tests/support/image_corpus.py``, ``dicom_corpus.py``, or a test.
"""

import argparse
import faulthandler
import hashlib
import random
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from fuzz_dicom import DICOM
from fuzz_images import IMAGES
from fuzz_texts import CONFIGURATIONS, RECIPES_AS_JSON, RECORDS, SELECTIONS
from fuzz_web import DICOMWEB
from fuzzing import Judge, Target, mutate

from grata_monai.core.limits import MEBIBYTE

TARGETS: dict[str, Target] = {
    "images": IMAGES,
    "dicom": DICOM,
    "dicomweb": DICOMWEB,
    "records": RECORDS,
    "recipes": RECIPES_AS_JSON,
    "selections": SELECTIONS,
    "configurations": CONFIGURATIONS,
}
SLOW = 6.0  # seconds
SLOW_FINDING = "too slow"
HANG = 60.0
GROWTH = 1024 * MEBIBYTE  # of this process and its children, beyond what imports took


def ask(judge: Judge, name: str, content: bytes, largest: int) -> tuple[str, str]:
    """Name the answer, and what is wrong with it: by its own rules, or too slow, or too large."""
    start = monotonic()
    signal.setitimer(signal.ITIMER_REAL, HANG)
    faulthandler.dump_traceback_later(2 * HANG, exit=True)  # code in C hears no signal
    try:
        answer, finding = judge(name, content)
    except Exception as error:
        answer, finding = type(error).__name__, "an error that is not ours"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    if monotonic() - start > SLOW:
        finding = SLOW_FINDING
    return answer, finding or ("too much memory" if peak() > largest else "")


def stop(number: int, frame: object) -> None:
    """End a try that hangs."""
    raise TimeoutError


def peak() -> int:
    """The largest memory that this process or a child of it has taken, in bytes."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024


def main() -> int:
    """Fuzz for some time, the targets in turn, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz_findings"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    generator = random.Random(arguments.seed)
    answers: dict[str, Counter[str]] = {name: Counter() for name in arguments.targets}
    findings: Counter[str] = Counter()
    spent = dict.fromkeys(arguments.targets, 0.0)
    signal.signal(signal.SIGALRM, stop)
    arguments.keep.mkdir(exist_ok=True)
    last = arguments.keep / "last"
    largest, end = peak() + GROWTH, monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        judges = {}
        for name in arguments.targets:
            (Path(folder) / name).mkdir()
            judges[name] = stack.enter_context(TARGETS[name].open(Path(folder) / name))
        while (start := monotonic()) < end:
            name = min(spent, key=lambda each: spent[each])  # the same time for each
            seed = generator.choice(list(TARGETS[name].seeds))
            content = mutate(TARGETS[name].seeds[seed], generator, TARGETS[name].tokens)
            last.write_bytes(content)  # of a try after which this process is no more
            answer, finding = ask(judges[name], seed, content, largest)
            if finding == SLOW_FINDING:  # the machine may have been busy
                answer, finding = ask(judges[name], seed, content, largest)
            largest = max(largest, peak())  # who needed that much is told once
            spent[name] += monotonic() - start
            answers[name][answer] += 1
            if finding:
                findings[finding] += 1
                digest = hashlib.sha256(content).hexdigest()[:16]
                (arguments.keep / f"{name}_{digest}_{seed}").write_bytes(content)
                print(f"{finding}: {answer}: {name}_{digest}_{seed}", flush=True)
    for name, found in answers.items():
        print(
            f"{name}, seed {arguments.seed}: {sum(found.values())}: {dict(found.most_common(12))}"
        )
    print(f"findings: {dict(findings) or 'none'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
