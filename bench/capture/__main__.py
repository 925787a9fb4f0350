"""The speed and size of `udpkit read` beside other programs: `python bench/capture [NAME ...]`.

All read the same made-up captures, in turn, so that what else the machine does hits all of them; a ratio is
one of medians. Memory is the most that was resident (getrusage(2)).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import traffic

READ = """
import sys
from udpkit.diagnosis import diagnose
from udpkit.evidence import open_evidence, read_captures
from udpkit.facts import Case
sources, conversations, unjudged = read_captures([open_evidence(path) for path in sys.argv[1:]])
for finding in diagnose(Case(sources, conversations=conversations, unjudged=unjudged)):
    print(finding.summary)
"""
UDPKIT = [sys.executable, "-I", "-c", READ]
"""From the start of Python to the findings."""
DPKT = """
import sys, dpkt
with open(sys.argv[1], "rb") as file:
    for time, data in dpkt.pcap.Reader(file):
        packet = dpkt.ethernet.Ethernet(data).data
        if isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.udp.UDP):
            packet.src, packet.data.sport, packet.dst, packet.data.dport
"""
PYTHON = [sys.executable, "-I", "-c", "pass"]
OTHERS = {
    "tshark": ["tshark", "-q", "-z", "conv,udp", "-r"],
    "tcpdump": ["tcpdump", "-nr"],
    "capinfos": ["capinfos", "-c"],
    "dpkt": [sys.executable, "-I", "-c", DPKT],
}
"""capinfos counts packets only: it steps over records. Else it would spend its time on hashes of the file."""
MEASURED = [sys.executable, "-I", "-S", str(Path(__file__).parent.with_name("probe") / "measured.py")]

CONVERSATIONS = 20_000
MANY = 1_000_000
SEED = 5
PATIENCE = 1800


class CannotRunError(Exception):
    """Why there is no figure, in one line."""


@dataclass(frozen=True)
class Took:
    seconds: float
    rss_kib: int
    lines: int


@dataclass(frozen=True)
class Figure:
    """A line of the table: what was measured, and what it has to be at least or at most, if anything."""

    what: str
    measured: float
    form: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def missed(self) -> bool:
        return (self.at_most is not None and self.measured > self.at_most) or (
            self.at_least is not None and self.measured < self.at_least
        )

    def line(self, part: str) -> str:
        bound, word = (self.at_most, "at most") if self.at_least is None else (self.at_least, "at least")
        target = "" if bound is None else f"{word} {self.form.format(bound)}"
        verdict = "MISSED" if self.missed else "" if bound is None else "ok"
        return f"{part:8}{self.what:52}{self.form.format(self.measured):>12}  {target:20}{verdict}".rstrip()


SECONDS, TIMES, MEMORY, BYTES, RATE = "{:.3f} s", "{:.1f}", "{:.1f} MiB", "{:.0f} bytes", "{:.0f} MB/s"


class Bench:
    """The parts, and the captures that they share. A part yields its figures, or raises CannotRunError."""

    def __init__(self, runs: int, stream: int, directory: Path) -> None:
        self._runs = runs
        self._stream = stream
        self._directory = directory

    @cached_property
    def _issue(self) -> Path:
        return self._written("issue.pcap", lambda file: traffic.write(file, CONVERSATIONS, SEED))

    def _written(self, name: str, write: Callable[[traffic.BinaryIO], int]) -> Path:
        path = self._directory / name
        with path.open("wb") as file:
            write(file)
        return path

    def _measure(self, *argv: str) -> Took:
        output = self._directory / "output"
        try:
            done = subprocess.run(
                [*MEASURED, str(output), *argv], capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise CannotRunError(f"{argv[0]} had not ended after {PATIENCE} s") from None
        why = "".join(done.stderr.strip().splitlines()[-1:])
        took = json.loads(done.stdout) if done.stdout else {"status": "none"}
        if took["status"] != 0:
            raise CannotRunError(f"{argv[0]} ended with status {took['status']}: {why}")
        lines = output.read_bytes().count(b"\n")
        output.unlink()
        return Took(took["seconds"], took["rss_kib"], lines)

    def speed(self) -> Iterator[Figure]:
        path = str(self._issue)
        programs = {"udpkit": UDPKIT} | {name: argv for name, argv in OTHERS.items() if _is_there(name)}
        for name in OTHERS.keys() - programs.keys():
            print(f"speed   {name} is not installed, and left out", flush=True)
        took: dict[str, list[Took]] = {name: [] for name in [*programs, "python"]}
        for _ in range(self._runs):
            took["python"].append(self._measure(*PYTHON))
            for name, argv in programs.items():
                took[name].append(self._measure(*argv, path))
        if (found := took["udpkit"][0].lines) != CONVERSATIONS // traffic.WRONG_SOURCE:
            raise CannotRunError(f"udpkit found {found} faults")
        medians = {name: statistics.median(one.seconds for one in all_) for name, all_ in took.items()}
        for name, median in medians.items():
            yield Figure(name, median, SECONDS)
        for name in programs.keys() - {"udpkit", "capinfos"}:
            at_least = 25 if name == "tshark" else None
            yield Figure(
                f"  times as long: {name}", medians[name] / medians["udpkit"], TIMES, at_least=at_least
            )
        if "capinfos" in medians:
            bound = 3 * medians["capinfos"] + medians["python"]
            yield Figure(
                "  udpkit, beside 3 x capinfos and Python's start", medians["udpkit"], SECONDS, bound
            )

    def memory(self) -> Iterator[Figure]:
        """The same conversations four times as long."""
        longer = self._written("longer.pcap", lambda file: traffic.write(file, CONVERSATIONS, SEED, repeat=4))
        once, four = (self._measure(*UDPKIT, str(path)).rss_kib for path in (self._issue, longer))
        longer.unlink()
        yield Figure("resident, the capture once", once / 1024, MEMORY)
        yield Figure("resident, four times as long", four / 1024, MEMORY, once / 1024 * 1.05)

    def many(self) -> Iterator[Figure]:
        """Above what an empty capture needs."""
        empty = self._written("empty.pcap", lambda file: traffic.write(file, 0, SEED))
        many = self._written("many.pcap", lambda file: traffic.write_many(file, MANY))
        least = self._measure(*UDPKIT, str(empty)).rss_kib
        took = self._measure(*UDPKIT, str(many))
        both = self._measure(*UDPKIT, str(many), str(many)).rss_kib
        many.unlink()
        yield Figure(f"{MANY:,} conversations", took.seconds, SECONDS)
        yield Figure("  for each, with what is found", (took.rss_kib - least) * 1024 / MANY, BYTES, 300)
        yield Figure("  for each, in two captures", (both - least) * 1024 / MANY, BYTES, 300)

    def stream(self) -> Iterator[Figure]:
        """Through standard input."""
        rounds = max(1, self._stream * 1000**3 // self._issue.stat().st_size)
        body = self._issue.read_bytes()[len(traffic.FILE_HEADER) :]
        once = self._measure(*UDPKIT, str(self._issue)).rss_kib
        output = self._directory / "output"
        argv = [*MEASURED, str(output), *UDPKIT, "-"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False) as reader:
            if reader.stdin is None:
                raise CannotRunError("no pipe")
            reader.stdin.write(traffic.FILE_HEADER)
            for _ in range(rounds):
                reader.stdin.write(body)
            took = json.loads(reader.communicate(timeout=PATIENCE)[0])
        if took["status"] != 0:
            raise CannotRunError(f"udpkit ended with status {took['status']}")
        yield Figure("piped in", rounds * len(body) / 1e6 / took["seconds"], RATE)
        yield Figure("  bytes", rounds * len(body) / 1e9, "{:.2f} GB")
        yield Figure("  resident", took["rss_kib"] / 1024, MEMORY, once / 1024 * 1.05)


def _is_there(name: str) -> bool:
    return shutil.which(OTHERS[name][0]) is not None and (name != "dpkt" or find_spec("dpkt") is not None)


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "speed": Bench.speed,
    "memory": Bench.memory,
    "many": Bench.many,
    "stream": Bench.stream,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench/capture", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"run only these: {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, default=5, help="of `speed` (default: %(default)s)")
    parser.add_argument("--gigabytes", type=int, default=1, help="of `stream` (default: %(default)s)")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(PARTS):
        parser.error(f"no such name: {', '.join(sorted(unknown))}")
    if given.runs < 1 or given.gigabytes < 1:
        parser.error("--runs and --gigabytes take a number above 0")
    failed = False
    with tempfile.TemporaryDirectory(prefix="udpkit-bench-") as directory:
        bench = Bench(given.runs, given.gigabytes, Path(directory))
        for name in given.names or PARTS:
            try:
                for figure in PARTS[name](bench):
                    print(figure.line(name), flush=True)
                    failed |= figure.missed
            except CannotRunError as error:
                print(f"{name:8}no figure: {error}", flush=True)
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench/capture: interrupted")
