"""What the fuzzers have found, each with the input that showed it; the faults are mended and must stay so.

FINDINGS: name -> (target, input), run by test_corpus.py.  A finding of `make fuzz` is added here as one more line;
one that took a whole server to see is a test beside the module that it was found in, named below:

- DOCUMENT_ROOT with a NUL was an unexpected error and a traceback in the log: tests/unit/test_script.py.
- An Authorizer's request over the limit of interleaved ones ended before its STDOUT: tests/unit/test_conformance.py.
"""
from __future__ import annotations

from typing import Dict, Tuple

FINDINGS: Dict[str, Tuple[str, bytes]] = {
    # It was read as if there were none: 200, or 302 with a Location.
    "a status of 000": ("head", b"Status: 000\r\n\r\n"),
    # It went to the visitor as it was.
    "a status below 100": ("head", b"Status: 020 OK\r\nContent-Type: x/y\r\n\r\n"),
}
