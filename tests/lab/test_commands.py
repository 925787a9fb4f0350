"""What the command lines of experiments stand for."""

import sys

from udpkit.lab.commands import resolve


def test_python3_is_the_python_that_udpkit_runs_with() -> None:
    assert resolve("python3 -c 'print(1)'").argv == [sys.executable, "-c", "print(1)"]
