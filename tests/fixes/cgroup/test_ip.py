"""ip(8), which takes back what a fix has added to the host."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from udpkit.fixes.cgroup import tables


def test_ctrl_c_does_not_end_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not even before it has a session of its own."""
    program = tmp_path / "ip"
    program.write_text(f"#!{sys.executable} -IS\nprint(open('/proc/self/status').read())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    blocked = int(tables.ip("-l").split("SigBlk:")[1].split()[0], 16)
    assert all(blocked & 1 << (one - 1) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(OSError, match="ip was ended by signal 9"):
        tables.ip("rule")
