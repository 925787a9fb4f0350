"""`udpkit lab mirror`, as its user runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

import pytest
from processes import descendants, parents

from cli.command import TIMEOUT, UDPKIT, environment, udpkit
from udpkit.lab import wait_until

STATE = "ip address; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule"


def state() -> str:
    return subprocess.run(["sh", "-c", STATE], capture_output=True, text=True, check=True).stdout


def test_it_shows_the_stage_and_changes_nothing() -> None:
    before = state()
    shown = udpkit("lab", "mirror")
    assert shown.returncode == 0
    assert shown.stdout.startswith("server: the copy of this host\n")
    told = json.loads(udpkit("lab", "mirror", "--json").stdout)
    assert told["schema"] == 1
    assert "lo" in [one["name"] for one in told["interfaces"]]
    assert state() == before


def test_a_program_runs_in_the_copy_with_our_streams_and_its_exit_code() -> None:
    line = "cat; ip -oneline link show lo | wc -l; exit 7"
    run = subprocess.run(
        [UDPKIT, "lab", "mirror", "--", "sh", "-c", line],
        input="typed\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert (run.returncode, run.stdout) == (7, "typed\n1\n")
    assert run.stderr.startswith("server: the copy of this host\n")
    assert udpkit("lab", "mirror", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--pid", "1", "--netns", "x"], 2, "--netns, --pid and --container exclude each other"),
        (["--json", "--", "ls"], 2, "--json shows the copy; it cannot run a program as well"),
        (["--on", "x"], 2, "--on takes a PROGRAM"),
        (["--netns", "/no/such"], 2, "--netns /no/such: No such file or directory"),
        (["--on", "nobody", "--", "ls"], 2, "--on nobody: there is no such host; there is: server"),
        (["--", "no-such-program"], 5, "no-such-program is not installed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], code: int, sentence: str) -> None:
    run = udpkit("lab", "mirror", *arguments)
    assert run.returncode == code
    assert run.stderr.splitlines()[-1].startswith(f"udpkit: {sentence}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended(number: signal.Signals) -> None:
    before = state()
    process = subprocess.Popen(
        [UDPKIT, "lab", "mirror", "--", "sh", "-c", "echo up; exec sleep 1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    theirs = descendants(process.pid)
    assert len(theirs) >= 3
    process.send_signal(number)
    assert process.wait(TIMEOUT) == (130 if number == signal.SIGINT else -number)
    wait_until(lambda: not theirs & parents().keys(), timeout=10, what="it left processes", polling=True)
    process.stdout.close()
    assert state() == before


def test_a_shell_has_a_terminal() -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [UDPKIT, "lab", "mirror", "--", "sh", "-c", "test -t 0 && echo on $(tty)"],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:  # EIO: nobody has the other end open any more
        pass
    os.close(master)
    assert process.wait(TIMEOUT) == 0
    assert b"on /dev/pts/" in shown


def test_its_help_is_found() -> None:
    assert "udpkit lab mirror" in udpkit("lab", "mirror", "--help").stdout
    assert "lab mirror" in udpkit("lab", "--help").stdout
