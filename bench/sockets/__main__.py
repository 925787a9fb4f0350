"""udpkit's sockets beside a C loop, asyncio and uvloop: `python bench/sockets [NAME ...]`.

What is tested and its load have a core each; everything stays on the loopback interface. Echo: 64-byte
datagrams, 256 in flight. Bulk: batches of 64 datagrams to one peer. The runs are interleaved, so that a slow
moment of the machine hits all alike, and medians are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

HERE = Path(__file__).parent

ECHOES = {
    "c": "C, recvmmsg and sendmmsg",
    "batches": "Socket, recv_many and reply_many",
    "singly": "Socket, recv and reply",
    "recvmsg": "Python, recvmsg and sendmsg",
    "asyncio": "asyncio, DatagramProtocol",
    "drop-in-asyncio": "create_datagram_endpoint, asyncio",
    "iterator-asyncio": "AsyncSocket, async for, asyncio",
    "uvloop": "uvloop, DatagramProtocol",
    "drop-in-uvloop": "create_datagram_endpoint, uvloop",
    "iterator-uvloop": "AsyncSocket, async for, uvloop",
    "iterator-trio": "AsyncSocket, async for, trio",
}
"""Echo servers, beside what each is compared with: "c" is that of echo.c, the others are in servers.py."""

BULK = {
    f"{sender}-{size}": f"{what}, {size} bytes"
    for size in (1200, 64)
    for sender, what in {
        "c-sendmmsg": "C, sendmmsg",
        "c-gso": "C, GSO",
        "sendmmsg": "Socket.send_many",
        "gso": "Socket.send_many, gso=True",
    }.items()
}
"""One-way senders: "c-" is echo.c's, the others are in senders.py."""

TARGETS = [
    ("batches", "c", 0.9),
    ("drop-in-asyncio", "asyncio", 3.0),
    ("drop-in-asyncio", "uvloop", 1.0),
    ("iterator-asyncio", "asyncio", 2.0),
    ("gso-1200", "sendmmsg-1200", 3.0),
    ("gso-64", "sendmmsg-64", 3.0),
]
"""(what, beside what, how many times as many datagrams per second it has to reach)."""

COUNTS = {"lost", "strays"}

MEMORY_SERVER = "batches"
MEMORY_FIRST, MEMORY_ALL = 100_000, 10_000_000


class CannotRunError(Exception):
    """Why this flavour gives no figure, in one line."""


@dataclass(frozen=True)
class Sample:
    """One run. `notes` are the columns behind the rate: shares, but for those in COUNTS."""

    rate: float  # datagrams per second
    notes: dict[str, float]


@dataclass(frozen=True)
class Stage:
    """Where runs take place: the compiled echo.c, a scratch directory, a core for each side."""

    directory: Path
    tested: int
    load: int

    @property
    def echo(self) -> str:
        return str(self.directory / "echo")

    def compile(self) -> None:
        try:
            subprocess.run(["cc", "-O2", "-Wall", "-o", self.echo, HERE / "echo.c"], check=True)
        except FileNotFoundError:
            sys.exit("bench/sockets: a C compiler is needed: there is no cc on PATH")
        except subprocess.CalledProcessError:
            sys.exit("bench/sockets: echo.c does not compile here")

    @contextlib.contextmanager
    def started(self, core: int, *argv: str) -> Iterator[subprocess.Popen[str]]:
        """A program on its core; killed at the end, whatever the end is.

        A session of its own keeps Ctrl-C from it: this process gets it, and ends the others. What it says on
        stderr is kept for `last_errors`.
        """
        with (
            self.stderr(core).open("w") as errors,
            subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                os.sched_setaffinity(process.pid, {core})
                yield process
            finally:
                process.kill()

    def stderr(self, core: int) -> Path:
        return self.directory / f"{core}.stderr"

    def last_errors(self) -> str:
        """The last line from either core: when a server breaks, its load only sees that it is gone."""
        files = [path for path in map(self.stderr, (self.tested, self.load)) if path.exists()]
        lines = [path.read_text(errors="replace").strip().splitlines()[-1:] for path in files]
        return "; ".join(line for last in lines for line in last) or "it ended without a word"

    def port_of(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout
        if not select.select([process.stdout], [], [], 10)[0]:
            raise CannotRunError("no port after 10 s")
        port = process.stdout.readline().strip()
        if not port:
            process.wait()
            raise CannotRunError(self.last_errors())
        return port

    def figures(self, core: int, seconds: float, *argv: str) -> dict[str, float]:
        """The `name value` pairs a program prints at its end, which comes within `seconds` and a bit."""
        with self.started(core, *argv) as process:
            try:
                words = process.communicate(timeout=seconds + 10)[0].split()
            except subprocess.TimeoutExpired:
                raise CannotRunError(f"{Path(argv[0]).name} did not end") from None
            if process.returncode:
                raise CannotRunError(self.last_errors())
        return {name: float(value) for name, value in zip(words[::2], words[1::2], strict=True)}

    def server(self, name: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        if name == "c":
            return self.started(self.tested, self.echo, "serve", "0.0.0.0")  # noqa: S104  as servers.py
        return self.started(self.tested, sys.executable, str(HERE / "servers.py"), name)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc_pid_stat(5)


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise CannotRunError("the server is gone")


def run_echo(stage: Stage, name: str, seconds: float) -> Sample:
    with stage.server(name) as server:
        port = stage.port_of(server)
        before = cpu_seconds(server.pid)
        got = stage.figures(stage.load, seconds, stage.echo, "drive", port, str(seconds))
        busy = cpu_seconds(server.pid) - before
    if not got["echoes"]:
        raise CannotRunError("it answered nothing")
    return Sample(
        got["echoes"] / got["seconds"],
        {
            "lost": got["lost"],
            "strays": got["strays"],  # echoes of what nobody waits for: late, or twice
            "server busy": busy / got["whole"],  # well below 100%: others wanted its core
            "load idle": got["waited"] / got["seconds"],  # near 0%: not the server was measured, but its load
        },
    )


def run_bulk(stage: Stage, name: str, seconds: float) -> Sample:
    sender, _, size = name.rpartition("-")
    with stage.started(stage.load, stage.echo, "sink") as sink:
        arguments = [stage.port_of(sink), str(seconds), size]
        if sender.startswith("c-"):
            argv = [stage.echo, "send", *arguments, *(["gso"] if sender == "c-gso" else [])]
        else:
            argv = [sys.executable, str(HERE / "senders.py"), sender, *arguments]
        sent = stage.figures(stage.tested, seconds, *argv)
        sink.send_signal(signal.SIGTERM)
        arrived = float(sink.communicate(timeout=10)[0].split()[1])
    return Sample(sent["sent"] / sent["seconds"], {"arrived": arrived / sent["sent"]})


def run_memory(stage: Stage) -> None:
    """Does a server that has seen ten million datagrams keep anything of them?"""
    print(f"{ECHOES[MEMORY_SERVER]}: resident memory", flush=True)
    with stage.server(MEMORY_SERVER) as server:
        port = stage.port_of(server)
        sizes = []
        for upto, more in (MEMORY_FIRST, MEMORY_FIRST), (MEMORY_ALL, MEMORY_ALL - MEMORY_FIRST):
            got = stage.figures(stage.load, 600, stage.echo, "drive", port, "600", str(more))
            if got["echoes"] < more:
                raise CannotRunError(f"only {got['echoes']:,.0f} of {more:,} echoes came in 600 s")
            sizes.append(rss_kib(server.pid))
            print(f"  after {upto:>10,} datagrams {sizes[-1]:>9,} KiB", flush=True)
    print(f"  growth {sizes[1] - sizes[0]:>+33,} KiB")


Run = Callable[[Stage, str, float], Sample]


def measure(
    stage: Stage, runs: dict[str, Run], rounds: int, seconds: float
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Samples by name, and why the rest has none. Who cannot run once is not asked again."""
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name in (name for name in runs if name not in failures):
            if sys.stderr.isatty():
                print(f"\r\033[Kround {number} of {rounds}: {name}", end="", file=sys.stderr, flush=True)
            try:
                samples[name].append(runs[name](stage, name, seconds))
            except CannotRunError as error:
                failures[name] = str(error)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return {name: found for name, found in samples.items() if name not in failures}, failures


def median_rate(samples: list[Sample]) -> float:
    return statistics.median(sample.rate for sample in samples)


def row(name: str, what: str, samples: list[Sample]) -> str:
    rates = [sample.rate for sample in samples]
    cells = [f"{rate:12,.0f}" for rate in (median_rate(samples), min(rates), max(rates))]
    for column in samples[0].notes:
        values = [sample.notes[column] for sample in samples]
        cells.append(f"{sum(values):12,.0f}" if column in COUNTS else f"{statistics.median(values):12.0%}")
    return f"{name:17} {what:39}" + "".join(cells)


def print_table(
    title: str, names: dict[str, str], samples: dict[str, list[Sample]], failures: dict[str, str]
) -> None:
    shown = [name for name in names if name in samples]
    columns = ["per second", "slowest", "fastest", *(samples[shown[0]][0].notes if shown else [])]
    print(f"{title:57}" + "".join(f"{column:>12}" for column in columns))
    for name in names:
        if name in samples:
            print(row(name, names[name], samples[name]))
        elif name in failures:
            print(f"{name:17} {names[name]:39} {failures[name]}")
    print()


def print_targets(samples: dict[str, list[Sample]], failures: dict[str, str]) -> None:
    """Those both sides of which were asked for."""
    asked = samples.keys() | failures.keys()
    pairs = [pair for pair in TARGETS if asked.issuperset(pair[:2])]
    if not pairs:
        return
    print(f"{'medians':57}{'ratio':>12}{'target':>12}")
    for what, beside, target in pairs:
        if samples.keys() >= {what, beside}:
            ratio = median_rate(samples[what]) / median_rate(samples[beside])
            found = f"{ratio:12.2f}{target:12.2f}  {'ok' if ratio >= target else 'missed'}"
        else:
            found = f"{'no figure':>12}{target:12.2f}"
        print(f"{f'{what} / {beside}':57}{found}")


def two_cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench/sockets: two cores are needed, one for each side; this process may use one only")
    return cores[0], cores[1]


def terminated(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/sockets", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"run only these: {', '.join([*ECHOES, *BULK])}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a run (default: %(default)s)")
    parser.add_argument(
        "--memory", action="store_true", help="resident memory over 10 million echoes instead"
    )
    arguments = parser.parse_args()
    runs: dict[str, Run] = {**dict.fromkeys(ECHOES, run_echo), **dict.fromkeys(BULK, run_bulk)}
    if unknown := set(arguments.names) - set(runs):
        parser.error(f"no such name: {', '.join(sorted(unknown))}")
    if arguments.names:
        runs = {name: run for name, run in runs.items() if name in arguments.names}

    signal.signal(signal.SIGTERM, terminated)  # so that the children are killed on the way out
    tested, load = two_cores()
    with tempfile.TemporaryDirectory(prefix="udpkit-bench-") as directory:
        stage = Stage(Path(directory), tested, load)
        stage.compile()
        if arguments.memory:
            try:
                run_memory(stage)
            except CannotRunError as error:
                sys.exit(f"bench/sockets: {error}")
            return 0
        samples, failures = measure(stage, runs, arguments.rounds, arguments.seconds)
    for title, names in ("echo, 64 bytes, 256 in flight", ECHOES), ("bulk, batches of 64", BULK):
        if names.keys() & runs.keys():
            print_table(title, names, samples, failures)
    print_targets(samples, failures)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench/sockets: interrupted")
