"""What is inlined into pages is what the package says it is; numbers are written for readers."""

import gzip
import hashlib
import re

from grata_monai.report.templates import _number, _signed, read_asset


def test_the_viewer_is_the_published_file():
    told = re.search(r"SHA-256.*: (\w{64})", read_asset("niivue.LICENSE.txt").decode())[1]
    content = gzip.decompress(read_asset("niivue.umd.js.gz"))
    assert hashlib.sha256(content).hexdigest() == told


def test_numbers_say_when_there_is_none_and_never_minus_zero():
    assert (_number(None), _number(1.005, 1)) == ("–", "1.0")
    assert (_signed(None), _signed(-0.04), _signed(-1.26), _signed(2.0)) == (
        "–",
        "0.0",
        "−1.3",
        "+2.0",
    )
