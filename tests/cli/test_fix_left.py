"""What stays of a fix: all with --persist, nothing of one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from fixes.cgroup.conftest import Inside, alone, as_root, cgroup

from cli.command import TIMEOUT, UDPKIT, environment, udpkit
from cli.fixing import (
    OTHER,
    PATIENCE,
    PREFERRED,
    answerer,
    attached,
    echo,
    in_kernel,
    killed,
    lab,
    listed,
    needs,
    nothing_is_left,
    traces,
)
from udpkit.cli import fix as fix_verb
from udpkit.fixes.cgroup import Keeper
from udpkit.lab import Lab, wait_until

__all__ = ["alone", "cgroup", "lab", "nothing_is_left"]

KILLS, LONGEST = 10, 0.8
"""Moments, evenly in so many seconds, of which attaching takes most."""


@as_root
def test_a_persistent_fix_stays_until_it_is_detached(lab: Lab, cgroup: Path) -> None:
    with echo(Inside(lab.hosts["server"], cgroup)):
        persist(cgroup)
        assert answerer(lab, OTHER[4]) == OTHER[4]
        again = udpkit("fix", "attach", "--persist", "--cgroup", str(cgroup))
        assert again.returncode == 2, again.stderr
        assert udpkit("fix", "detach").returncode == 0
        assert answerer(lab, OTHER[4]) == PREFERRED[4]


def persist(cgroup: Path) -> int:
    """Attach, and return the process in the background."""
    there = udpkit("fix", "attach", "--persist", "--cgroup", str(cgroup))
    assert there.returncode == 0, there.stderr
    [fix] = listed()
    owner: int = fix["process"]
    return owner


@as_root
@pytest.mark.parametrize("how", ["attach", "run", "detach"])
def test_what_a_persistent_fix_leaves_that_was_killed_goes(lab: Lab, cgroup: Path, how: str) -> None:
    server = lab.hosts["server"]
    with echo(Inside(server, cgroup)):
        clean = traces(server)
        owner = persist(cgroup)
        killed(owner)
        assert listed() == []
        assert answerer(lab, OTHER[4]) == PREFERRED[4]
        assert traces(server) != clean
        if how == "detach":
            gone = udpkit("fix", "detach", "--cgroup", str(cgroup))
            assert gone.returncode == 0, gone.stderr
        elif how == "attach":
            persist(cgroup)
            assert answerer(lab, OTHER[4]) == OTHER[4]
            assert udpkit("fix", "detach").returncode == 0
        else:
            assert udpkit("fix", "run", "--", "true").returncode == 0  # on another host
        assert traces(server) == clean
        nothing = udpkit("fix", "detach", "--cgroup", str(cgroup))
        assert nothing.returncode == 1


@as_root
def test_killed_at_any_moment_it_leaves_nothing_that_does_not_go(lab: Lab, cgroup: Path) -> None:
    with echo(Inside(lab.hosts["server"], cgroup)):
        for moment in range(KILLS):
            argv = [UDPKIT, "fix", "attach", "--cgroup", str(cgroup)]
            fix = subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=environment())
            with suppress(subprocess.TimeoutExpired):
                fix.wait(moment * LONGEST / KILLS)
            fix.kill()
            fix.wait()
            assert answerer(lab, OTHER[4]) in (OTHER[4], PREFERRED[4])
        udpkit("fix", "detach")  # which has nothing to do if they were all too early
        assert answerer(lab, OTHER[4]) == PREFERRED[4]


@as_root
def test_what_bpftool_lists_of_a_fix_is_gone_after_it(cgroup: Path) -> None:
    needs("bpftool")
    for end in (signal.SIGTERM, signal.SIGKILL):
        with attached("--cgroup", str(cgroup)) as fix:
            assert in_kernel() == ["link"] * 5 + ["map"] * 4 + ["prog"] * 5
            fix.send_signal(end)
            fix.wait(TIMEOUT)
        wait_until(lambda: not in_kernel(), timeout=PATIENCE, what="BPF objects stay", polling=True)


@as_root
def test_what_a_killed_fix_leaves_the_next_one_removes(lab: Lab, cgroup: Path) -> None:
    server = lab.hosts["server"]
    with echo(Inside(server, cgroup)):
        with attached("--cgroup", str(cgroup)) as fix:
            assert answerer(lab, OTHER[4]) == OTHER[4]
            fix.kill()
            fix.wait()
        assert answerer(lab, OTHER[4]) == PREFERRED[4]
        left = server.ip("rule show")
        assert "fwmark" in left
        with attached("--cgroup", str(cgroup)):
            assert server.ip("rule show").count("fwmark") == left.count("fwmark")
            assert answerer(lab, OTHER[4]) == OTHER[4]


@as_root
def test_a_fix_is_listed_with_the_process_that_can_be_killed(lab: Lab) -> None:
    """Its own number for itself is one of the lab's PID namespace."""
    run = lab.hosts["server"].run(UDPKIT, "fix", "run", "--", "sleep", "60")
    try:
        wait_until(lambda: listed() != [], [run], timeout=TIMEOUT, what="no fix", polling=True)
        assert [one["process"] for one in listed()] == [run.pid]
    finally:
        run.stop()


@as_root
@pytest.mark.parametrize("streams", ["", "<&-", ">&-", "<&- >&- 2>&-"])
def test_what_persists_needs_no_terminal_and_no_folder(cgroup: Path, tmp_path: Path, streams: str) -> None:
    line = f"cd '{tmp_path}' && {UDPKIT} fix attach --persist --cgroup '{cgroup}' {streams}"
    subprocess.run(["sh", "-c", line], check=True, timeout=TIMEOUT, env=environment())
    [fix] = listed()
    try:
        assert (fix["cgroup"], fix["corrected"]) == (str(cgroup), 0)
        process = Path(f"/proc/{fix['process']}")
        assert {str((process / "fd" / str(number)).readlink()) for number in range(3)} == {os.devnull}
        assert str((process / "cwd").readlink()) == "/"
    finally:
        assert udpkit("fix", "detach").returncode == 0


@as_root
def test_a_fix_that_ends_just_before_it_is_asked_to_is_detached(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Keeper(cgroup):
        [ended] = [one for one in fix_verb.attached() if one[1] == cgroup]
    monkeypatch.setattr(fix_verb, "attached", lambda: [ended])
    assert fix_verb.verb.main(["detach"], standalone_mode=False) == 0
