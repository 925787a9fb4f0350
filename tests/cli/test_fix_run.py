"""`udpkit fix run`: what its program gets of it, and it of its program."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fixes.cgroup.conftest import alone, as_root, cgroup

from cli.command import TIMEOUT, UDPKIT, environment, udpkit
from cli.fixing import lab, nothing_is_left

__all__ = ["alone", "cgroup", "lab", "nothing_is_left"]


@as_root
def test_the_exit_code_is_the_programs_and_signals_reach_it() -> None:
    assert udpkit("fix", "run", "--", "sh", "-c", "exit 7").returncode == 7
    assert udpkit("fix", "run", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    missing = udpkit("fix", "run", "--", "no-such-program")
    assert (missing.returncode, missing.stderr) == (5, "udpkit: no-such-program: there is no such program\n")
    run = subprocess.Popen(
        [UDPKIT, "fix", "run", "--", "sh", "-c", "trap 'exit 3' TERM; echo; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert run.stdout is not None
    run.stdout.readline()
    run.terminate()
    run.communicate(timeout=TIMEOUT)
    assert run.returncode == 3


@contextmanager
def running(script: str, *under: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A shell script with a fix, that has begun; `under` runs it all."""
    argv = [*under, UDPKIT, "fix", "run", "--", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment(), **how) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        yield run


WAITS = "trap 'exit 3' {}; echo begun; while :; do sleep 0.1; done"


@as_root
@pytest.mark.parametrize("name", ["INT", "QUIT", "TERM", "HUP", "USR1", "USR2"])
def test_every_signal_that_programs_are_told_with_reaches_it(name: str) -> None:
    with running(WAITS.format(name), start_new_session=True) as run:
        run.send_signal(signal.Signals[f"SIG{name}"])
        assert run.wait(TIMEOUT) == 3


@as_root
def test_keys_of_a_terminal_reach_it_once() -> None:
    master, slave = os.openpty()
    script = "trap 'echo one' INT; echo begun; read line; read line; echo $line"
    with running(script, "setsid", "--ctty", stdin=slave) as run:
        os.write(master, b"\x03")
        assert run.stdout is not None
        assert run.stdout.readline() == "one\n"
        os.write(master, b"first\nsecond\n")
        assert run.stdout.read() in {"first\n", "second\n"}
    os.close(master)
    os.close(slave)


@as_root
def test_what_it_is_to_ignore_stays_ignored() -> None:
    with running("echo begun; read line; echo $line", "nohup", stdin=subprocess.PIPE) as run:
        run.send_signal(signal.SIGHUP)
        assert run.communicate("survived\n", TIMEOUT) == ("survived\n", None)


@as_root
def test_a_program_that_goes_on_without_its_fix_still_hears_signals() -> None:
    with running(WAITS.format("TERM")) as run:
        assert udpkit("fix", "detach").returncode == 0
        run.terminate()
        assert run.wait(TIMEOUT) == 3


@as_root
def test_descriptors_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("read")
    line = f"exec 3<'{tmp_path}/file'; exec {UDPKIT} fix run -- sh -c 'cat <&3; ls /proc/self/fd'"
    run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=environment())
    assert run.stdout.split("\n")[:5] == ["read0", "1", "2", "3", "4"]  # the last one is of ls
    assert len(run.stdout.split()) == 5
