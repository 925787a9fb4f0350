"""What the command lines of experiments stand for."""

import subprocess
import sys

import pytest

from udpkit.lab.commands import resolve


def test_python3_is_the_python_that_udpkit_runs_with() -> None:
    assert resolve("python3 -c 'print(1)'").argv == [sys.executable, "-c", "print(1)"]


@pytest.mark.parametrize(
    "line", ["talk", "talk ask", "talk serv ::1 1", "talk ask ::1", "talk ask --conect ::1 1"]
)
def test_talk_that_is_called_wrongly_says_how(line: str) -> None:
    ended = subprocess.run(resolve(line).argv, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("usage: talk serve ")
    assert len(ended.stderr.splitlines()) == 1
