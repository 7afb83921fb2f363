"""What the service's processes log of what libraries say."""

import subprocess
import sys

SAYS = """
import logging, threading, warnings
from grata_monai.service.worker import prepare_logging

prepare_logging()
warnings.warn("JANE DOE")
logging.getLogger("pynetdicom.dul").error("JANE DOE")

def fail():
    raise ValueError("JANE DOE")

thread = threading.Thread(target=fail)
thread.start()
thread.join()
logging.getLogger("grata_monai").info("of ours")
"""


def test_neither_warnings_nor_tracebacks_of_threads_quote_what_a_peer_sent():
    done = subprocess.run(
        [sys.executable, "-c", SAYS], capture_output=True, text=True, timeout=120, check=True
    )
    assert "JANE" not in done.stdout + done.stderr
    assert "A thread has ended (ValueError)" in done.stderr
    assert "of ours" in done.stderr
