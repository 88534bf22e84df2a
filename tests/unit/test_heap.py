"""What a worker keeps of the memory that it has used."""
from __future__ import annotations

import os
import resource
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# In a process of its own: the settings are for good.  Blocks below the limit, every other one freed: holes, which the
# top of the heap hides.
PROGRAM = """
import resource
from luafcgid2 import procfs
from luafcgid2.heap import Heap
heap = Heap()
heap.configure()
heap.trim()
before = procfs.rss_kb("self")
blocks = [bytearray(100000) for _ in range(400)]
full = procfs.rss_kb("self")
del blocks[::2]
%s
heap.trim()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(before, full, procfs.rss_kb("self"))
"""


def measured(extra=""):
    done = subprocess.run([sys.executable, "-c", PROGRAM % extra], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return map(int, done.stdout.split())


def test_what_is_free_between_used_blocks_goes_back_to_the_kernel():
    before, full, after = measured()
    assert full - before > 30000
    assert after - before < 25000


def test_without_descriptors_nothing_is_given_back_and_nothing_fails():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    before, full, after = measured("resource.setrlimit(resource.RLIMIT_NOFILE, (0, %d))" % hard)
    assert after >= full > before
