"""Without permission, and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from processes import descendants, parents

from cli.command import TIMEOUT, UDPKIT, environment
from udpkit.lab import wait_until

WITHOUT_NAMESPACES = """
echo 0 > /proc/sys/user/max_user_namespaces || exit 99
exec setpriv --bounding-set=-all --inh-caps=-all "$@"
"""
"""The setting belongs to a user namespace: in one of our own it changes nothing outside."""


def test_where_user_namespaces_are_switched_off_the_setting_is_named() -> None:
    ours = Path("/proc/sys/user/max_user_namespaces").read_text()
    run = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", WITHOUT_NAMESPACES, "sh", UDPKIT, "lab"],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    assert (run.returncode, run.stdout) == (5, "")
    assert "sysctl user.max_user_namespaces=" in run.stderr
    assert "root" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert Path("/proc/sys/user/max_user_namespaces").read_text() == ours


@pytest.mark.parametrize(
    "processes", [1, 3, 12], ids=["at the start", "in the exchange", "while fixes are tried"]
)
def test_ctrl_c_ends_with_130_and_leaves_no_process(processes: int) -> None:
    with subprocess.Popen(
        [UDPKIT, "lab"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    ) as story:
        seen: set[int] = set()

        def has_come(enough: bool) -> bool:
            seen.update(descendants(story.pid))
            return story.poll() is not None or enough

        wait_until(
            lambda: has_come(len(seen) >= processes),
            timeout=TIMEOUT,
            what="the lab did not start",
            polling=True,
        )
        os.killpg(story.pid, signal.SIGINT)
        wait_until(lambda: has_come(False), timeout=TIMEOUT, what="it did not end", polling=True)
        assert story.stdout is not None
        assert story.stderr is not None
        assert (story.wait(), story.stdout.read(), story.stderr.read().strip()) == (130, "", "")
    assert len(seen) >= processes
    assert not seen & parents().keys()
