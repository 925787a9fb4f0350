"""The fixes of this kernel, as whoever looks sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fixes.cgroup.conftest import as_root
from udpkit.fixes.cgroup import Keeper

LOOK = """
import os, resource
from udpkit._native import loaded_fixes
print(len(loaded_fixes()), flush=True)
last = os.open("/dev/null", os.O_RDONLY)
os.close(last)
resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, last + 1))
print(len(loaded_fixes()))
"""


@as_root
def test_a_fix_that_cannot_be_looked_at_is_not_taken_for_gone(cgroup: Path) -> None:
    with Keeper(cgroup):
        run = subprocess.run(
            [sys.executable, "-c", LOOK], capture_output=True, text=True, check=False, timeout=20
        )
    assert int(run.stdout) > 0
    assert "OSError: [Errno 24] looking at the BPF programs: Too many open files" in run.stderr
