"""The shell lines of fixes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from udpkit.fixes import applying
from udpkit.lab import wait_until


def test_what_takes_too_long_does_nothing_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "PATIENCE", 0.2)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with ExitStack() as held:  # or the end of the file would end who reads it

        def nobody_reads() -> bool:
            try:
                held.callback(os.close, os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                return True
            return False

        with pytest.raises(applying.Failed, match=r"did not end in 0\.2 s$"):
            applying.run(f"(cat {gate}; true); true")
        wait_until(nobody_reads, timeout=2, what="what the shell has started goes on", polling=True)
