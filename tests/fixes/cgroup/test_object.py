"""The BPF object that is committed."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "crates/cgroup/bpf"


def test_the_object_was_built_from_the_source_beside_it() -> None:
    for line in (FOLDER / "source.bpf.sha256").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, "make bpf"
