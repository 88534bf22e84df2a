"""The fuzzer's modules lie beside this file, the servers that it attacks beside the integration tests."""
from __future__ import annotations

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]
pytest.register_assert_rewrite("harness", "servers", "siege", "targets", "wire")
