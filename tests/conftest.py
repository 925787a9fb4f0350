"""What several test folders need."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from udpkit.evidence.programs import SEARCH_PATH

settings.register_profile("udpkit", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("udpkit")


@pytest.fixture
def tcpdump() -> Callable[[Path], list[str]]:
    """Reads a capture with the real tcpdump: a line for each UDP and ICMP packet."""
    if shutil.which("tcpdump", path=SEARCH_PATH) is None:
        pytest.skip("tcpdump is not installed")

    def read(path: Path) -> list[str]:
        # As root it would change its user, which takes privilege; unmapped in a user namespace it is nobody.
        command = ["unshare", "--user", "tcpdump", "-nr", str(path), "udp or icmp"]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": SEARCH_PATH})
        return run.stdout.splitlines()

    return read
