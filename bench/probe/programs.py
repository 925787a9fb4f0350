"""udpkit, nc and nmap: how they are run on a host's ports, and what they say of them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab.commands import openbsd_nc
from udpkit.lab.errors import TimedOut
from udpkit.lab.host import Host

UDPKIT = str(Path(sys.executable).with_name("udpkit"))
MEASURED = [sys.executable, "-I", "-S", str(Path(__file__).with_name("measured.py"))]

Ports = Mapping[int, str]
"""What each port is, or is said to be."""

EXPECTED = {"open": "open", "quiet": "silent, proven", "dropped": "silent, proven", "closed": "closed"}
"""What udpkit has to say of each kind of port; `proven`: that ICMP errors get through. All else is wrong."""
TRUTH = {"open": "open", "quiet": "open", "dropped": "filtered", "closed": "closed"}
"""What nmap would call each kind of port, if it knew."""
UNDECIDED = "open|filtered"

NC_SUCCEEDED = re.compile(r"^Connection to \S+ (\d+) port \[udp/.*succeeded!$", re.MULTILINE)


class CannotRunError(Exception):
    """Why there is no figure, in one line."""


@dataclass(frozen=True)
class Took:
    """What a program needed and said."""

    seconds: float
    rss_kib: int
    output: str
    errors: str


class Started:
    """A program that runs on a client; others may at the same time."""

    def __init__(self, client: Host, file: Path, *argv: str) -> None:
        self._name = Path(argv[0]).name
        self._file = file
        self._program = client.run(*MEASURED, str(file), *argv)

    def finish(self, timeout: float, statuses: tuple[int, ...] = (0,)) -> Took:
        """Wait until it has ended, with one of these statuses. Raises CannotRunError."""
        try:
            self._program.wait(timeout)
        except TimedOut:
            self._program.stop()
            raise CannotRunError(f"{self._name} had not ended after {timeout:g} s") from None
        errors = self._program.errors.decode(errors="replace")
        why = "".join(errors.strip().splitlines()[-1:]) or "without a word"
        try:
            took = json.loads(self._program.output)
        except ValueError:
            raise CannotRunError(f"{self._name} did not start: {why}") from None
        if took["status"] not in statuses:
            raise CannotRunError(f"{self._name} ended with status {took['status']}: {why}")
        output = self._file.read_text(errors="replace")
        self._file.unlink()
        return Took(took["seconds"], took["rss_kib"], output, errors)


class Probe:
    """One run of `udpkit probe`, with all hosts in it."""

    def __init__(self, client: Host, file: Path, dealt: Mapping[str, Ports]) -> None:
        """dealt: the ports of each address; the same numbers everywhere."""
        self._dealt = dealt
        numbers = sorted(next(iter(dealt.values())))
        ports = f"{numbers[0]}-{numbers[-1]}"
        self._started = Started(client, file, UDPKIT, "probe", "--json", ",".join(dealt), ports)

    def finish(self, timeout: float) -> Probed:
        took = self._started.finish(timeout, (3,))  # some ports are silent, and none is prohibited
        said: dict[str, dict[int, str]] = {}
        for result in json.loads(took.output)["results"]:
            verdict = result["state"] + ", proven" * result["icmp_proven"]
            said.setdefault(result["address"], {})[result["port"]] = verdict
        wrong = [
            f"{address} port {port} is {kind}, and was called {verdict}"
            for address, ports in self._dealt.items()
            for port, kind in ports.items()
            if (verdict := said.get(address, {}).get(port, "nothing")) != EXPECTED[kind]
        ]
        return Probed(took, said, wrong)


@dataclass(frozen=True)
class Probed:
    """What came of it. `said` by address; `wrong` is a sentence for each wrong verdict."""

    took: Took
    said: Mapping[str, Ports]
    wrong: list[str]


def nc(address: str, ports: Ports) -> list[str]:
    program = openbsd_nc()
    if program is None:
        raise CannotRunError("netcat-openbsd is not installed")
    return [program, "-vzu", "-w1", "-n", address, f"{min(ports)}-{max(ports)}"]


def nmap(address: str, ports: Ports) -> list[str]:
    program = shutil.which("nmap", path=SEARCH_PATH)
    if program is None:
        raise CannotRunError("nmap is not installed")
    # Very verbose: else it only counts the ports of the commonest state.
    return [program, "-sU", "-Pn", "-n", "-vvv", "-p", f"{min(ports)}-{max(ports)}", "-oX", "-", address]


def nc_said(took: Took, ports: Ports) -> dict[int, str]:
    """It names the ports that it takes for open, on stderr, and passes over the others."""
    succeeded = set(map(int, NC_SUCCEEDED.findall(took.errors)))
    return {port: "open" if port in succeeded else "closed" for port in ports}


def nmap_said(took: Took, _ports: Ports) -> dict[int, str]:
    try:
        tree = ElementTree.fromstring(took.output)  # noqa: S314 - written by a program of this machine
    except ElementTree.ParseError as error:
        raise CannotRunError(f"nmap's XML cannot be read: {error}") from None
    return {
        int(port.get("portid", "0")): state.get("state", UNDECIDED)
        for port in tree.iter("port")
        for state in port.iter("state")
    }


OTHERS: dict[str, tuple[Callable[[str, Ports], list[str]], Callable[[Took, Ports], dict[int, str]]]] = {
    "nc": (nc, nc_said),
    "nmap": (nmap, nmap_said),
}
"""The command line of each, and how its words are read: as nmap's, whatever the tool."""


def judged(said: Ports, ports: Ports) -> Iterator[tuple[str, str]]:
    """(kind of port, right, wrong or undecided) for every port. Silence leaves it open, proven or not."""
    for port, kind in ports.items():
        verdict = said.get(port, UNDECIDED)
        if verdict == UNDECIDED or verdict.startswith("silent"):
            yield kind, "undecided"
        else:
            yield kind, "right" if verdict == TRUTH[kind] else "wrong"
