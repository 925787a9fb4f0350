"""What the command lines of experiments stand for on this machine."""

from __future__ import annotations

import functools
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from udpkit import _native
from udpkit.evidence.programs import find
from udpkit.lab.errors import ProgramMissing, Unfit
from udpkit.lab.names import near

PROGRAMS = Path(__file__).with_name("programs")
TALK = [sys.executable, "-I", "-S", str(PROGRAMS / "talk.py")]
UDPKIT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
sys.argv[0] = "udpkit"
from udpkit.cli import main
sys.exit(main())
"""
"""The udpkit that runs the lab, whatever else is installed."""
OWN = {
    "python3": [sys.executable],
    "talk": TALK,
    "udpkit": [sys.executable, "-I", "-c", UDPKIT],
    "udpkit-serve": [sys.executable, "-I", str(PROGRAMS / "udpkit_serve.py")],
}
"""Names that a command line may begin with, beside every program on PATH."""
FIX_RUN = [*OWN["udpkit"], "fix", "run", "--"]
"""What may stand before a command line."""


def meant(program: str) -> str:
    """Where one of the lab's own programs may be meant: `: did you mean talk?`; else nothing."""
    if program in OWN:
        return ": it is the lab's own, which [programs] can start and shell lines cannot"
    return f": {words}" if (words := near(program, [*OWN, "nc"])) else ""


STAND_INS = {
    "ul": ["serve", "--nc"],
    "u": ["ask", "--connect"],
    "l": ["serve", "--tcp"],
    "": ["ask", "--tcp"],
}
"""nc's flags, less -4 and -6, and the mode of talk.py that makes the same system calls."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A program with its arguments; `note` says so when it is not the one that was named."""

    argv: list[str]
    note: str | None = None


def resolve(line: str) -> CommandLine:
    """Find the program that a command line names. Raises ProgramMissing."""
    name, *arguments = shlex.split(line)
    if [name, *arguments[:3]] == ["udpkit", "fix", "run", "--"]:
        if not may_fix():
            raise Unfit("a fix under a program takes root, outside of user namespaces")
        started = resolve(shlex.join(arguments[3:]))
        return CommandLine([*FIX_RUN, *started.argv], started.note)
    if name == "nc":
        if nc := openbsd_nc():
            return CommandLine([nc, *arguments])
        return stand_in(arguments)
    if name in OWN:
        return CommandLine([*OWN[name], *arguments])
    if find(name) is None:
        raise ProgramMissing(name)
    return CommandLine([name, *arguments])


def may_fix() -> bool:
    try:
        _native.loaded_fixes()
    except OSError:
        return False
    return True


@functools.cache
def openbsd_nc() -> str | None:
    """OpenBSD's netcat: Debian calls it nc.openbsd, and `nc` may be another one's."""
    for name in ("nc.openbsd", "nc"):
        path = find(name)
        if (
            path
            and "OpenBSD" in subprocess.run([path, "-h"], capture_output=True, text=True, check=False).stderr
        ):
            return path
    return None


def stand_in(arguments: list[str]) -> CommandLine:
    """Our own program in nc's place, for the few forms of it that experiments use."""
    flags = "".join(argument[1:] for argument in arguments if argument.startswith("-"))
    words = [argument for argument in arguments if not argument.startswith("-")]
    mode = STAND_INS.get(flags.strip("46"))
    if mode is None or not words:
        raise ProgramMissing("nc (netcat-openbsd)")
    *address, port = words
    where = address or ["::" if "6" in flags else "0.0.0.0"]  # noqa: S104 - as nc does
    note = "netcat-openbsd is not installed: a stand-in that makes nc's system calls ran in its place"
    return CommandLine([*TALK, *mode, *where, port], note)
