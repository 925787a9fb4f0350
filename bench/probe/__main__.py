"""The speed and truth of `udpkit probe`, on hosts in the lab: `python bench/probe [NAME ...]`.

Seconds are those of the program, from its start to its end. A verdict is wrong if it is not that of the
port's kind; a quiet or dropped port has to be called silent, with the proof that ICMP errors get through. The
bucket is the kernel's, of tokens: it takes a token's time for each closed port, less the burst of six.
"""

from __future__ import annotations

import argparse
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import SystemRandom
from types import FrameType

from programs import OTHERS, UDPKIT, CannotRunError, Ports, Probe, Probed, Started, judged
from stage import Answers, Stage, deal

from udpkit.lab.errors import LabError

FIRST = 7000
PROPORTIONS = {"open": 5, "quiet": 5, "dropped": 10}
"""Of 60 ports; the other 40 are closed."""
BURST = 6
"""Tokens that Linux saves (XRLIM_BURST_FACTOR in net/ipv4/icmp.c)."""
LOSS = 0.1
MANY = 64
STARTS = 20
PATIENCE = 150.0
"""Seconds after which a program is given up."""
SHOWN = 10
"""So many wrong verdicts are named."""


@dataclass(frozen=True)
class Figure:
    """A line of the table: what was measured, and what it may be at most; either may be missing."""

    what: str
    measured: float | None
    target: float | None
    form: str
    """How both are printed."""
    notes: tuple[str, ...] = ()
    """Lines below it."""

    @property
    def missed(self) -> bool:
        return self.measured is not None and self.target is not None and self.measured > self.target

    def lines(self, part: str) -> Iterator[str]:
        cells = ["" if value is None else self.form.format(value) for value in (self.measured, self.target)]
        verdict = "MISSED" if self.missed else "" if self.target is None else "ok"
        yield f"{part:8}{self.what:58}{cells[0]:>11}{cells[1]:>11}  {verdict}".rstrip()
        for note in self.notes:
            yield f"{'':10}{note}"


COUNT, SECONDS, RATIO, MEMORY, MILLISECONDS = "{:.0f}", "{:.2f} s", "{:.3f}", "{:.0f} MiB", "{:.0f} ms"


class Bench:
    """The parts, and what they share. A part yields its figures, or raises CannotRunError."""

    def __init__(self, seed: int, runs: int, directory: Path, stack: ExitStack) -> None:
        self._seed = seed
        self._runs = runs
        self._directory = directory
        self._stack = stack

    @cached_property
    def _hosts(self) -> tuple[Stage, list[tuple[str, Ports, Probed]]]:
        """The hosts of `host`, probed; other parts compare with them, so they stay until the end."""
        stage = self._stack.enter_context(Stage())
        return stage, self._probe_each(stage)

    def _probe_each(self, stage: Stage, loss: float = 0) -> list[tuple[str, Ports, Probed]]:
        """Hosts of 60 ports, a run for each; all take place at the same time."""
        dealt = {
            stage.host(ports, loss=loss): ports
            for ports in (proportional(60, self._seed + number) for number in range(self._runs))
        }
        started = [
            Probe(stage.client, self._directory / address, {address: ports})
            for address, ports in dealt.items()
        ]
        probed = [one.finish(PATIENCE) for one in started]
        return [(address, ports, one) for (address, ports), one in zip(dealt.items(), probed, strict=True)]

    def _probe_one(self, ports: Ports, token_ms: int) -> Probed:
        with Stage() as stage:
            dealt = {stage.host(ports, token_ms=token_ms): ports}
            return Probe(stage.client, self._directory / "one", dealt).finish(PATIENCE)

    def host(self) -> Iterator[Figure]:
        probed = [one for _, _, one in self._hosts[1]]
        yield wrong(f"60 ports, Linux's default limit, {self._runs} runs", probed)
        yield from spread(probed)
        yield beside_bucket(probed, self._hosts[1][0][1], 1.0)

    def faster(self) -> Iterator[Figure]:
        ports = proportional(600, self._seed)
        probed = [self._probe_one(ports, token_ms=100)]
        yield wrong("600 ports, icmp_ratelimit=100", probed)
        yield from spread(probed)
        yield beside_bucket(probed, ports, 0.1)

    def loss(self) -> Iterator[Figure]:
        with Stage() as stage:
            probed = [one for _, _, one in self._probe_each(stage, LOSS)]
        yield wrong(f"60 ports, {LOSS:.0%} loss either way, {self._runs} runs", probed)
        yield from spread(probed)

    def many(self) -> Iterator[Figure]:
        alone = max(one.took.seconds for _, _, one in self._hosts[1])
        with Stage() as stage:
            dealt = {
                stage.host(ports): ports
                for ports in (proportional(60, self._seed + number) for number in range(MANY))
            }
            probed = Probe(stage.client, self._directory / "many", dealt).finish(PATIENCE)
        yield wrong(f"{MANY} such hosts in one run", [probed])
        yield from spread([probed])
        yield beside_bucket([probed], next(iter(dealt.values())), 1.0)
        what = f"  beside one host, the slowest ({alone:.2f} s)"
        yield Figure(what, probed.took.seconds / alone, 1.0, RATIO)

    def all(self) -> Iterator[Figure]:
        ports = deal(range(1, 65_536), {"open": 5, "quiet": 5, "dropped": 5}, self._seed)
        probed = self._probe_one(ports, token_ms=0)
        yield wrong(f"{len(ports):,} ports, no limit", [probed])
        yield Figure("  seconds", probed.took.seconds, 3.0, SECONDS)
        yield Figure("  memory, resident", probed.took.rss_kib / 1024, 200, MEMORY)

    def start(self) -> Iterator[Figure]:
        """On this machine's loopback interface, which has no limit. A silent port would take the timeouts."""
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with Answers() as answers, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            for one in (server, gone):
                one.bind(("127.0.0.1", 0))
            answers.add(server)
            ports = {"open": server.getsockname()[1], "closed": gone.getsockname()[1]}
            gone.close()
            for state, port in ports.items():
                seconds = [timed_start(port, state) for _ in range(STARTS)]
                what = f"one {state} port on loopback, median of {STARTS}"
                yield Figure(what, 1000 * statistics.median(seconds), 150, MILLISECONDS)

    def others(self) -> Iterator[Figure]:
        """On the first host of `host`; each from an address of its own, and so with a bucket of its own."""
        stage, [(address, ports, probed), *_] = self._hosts
        yield Figure("udpkit probe", probed.took.seconds, None, SECONDS, by_kind(probed.said[address], ports))
        for name, (command, read) in OTHERS.items():
            try:
                argv = command(address, ports)
                took = Started(stage.another_client(), self._directory / "others", *argv).finish(PATIENCE)
                said = read(took, ports)
            except CannotRunError as error:
                yield Figure(f"{name}: skipped", None, None, SECONDS, (str(error),))
            else:
                what = " ".join([name, *argv[1 : argv.index("-n")]])
                yield Figure(what, took.seconds, None, SECONDS, by_kind(said, ports))


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "host": Bench.host,
    "faster": Bench.faster,
    "loss": Bench.loss,
    "many": Bench.many,
    "all": Bench.all,
    "start": Bench.start,
    "others": Bench.others,
}


def proportional(number: int, seed: int) -> dict[int, str]:
    """So many ports, in the proportions of 60."""
    counts = {kind: count * number // 60 for kind, count in PROPORTIONS.items()}
    return deal(range(FIRST, FIRST + number), counts, seed)


def wrong(what: str, probed: list[Probed]) -> Figure:
    sentences = [sentence for one in probed for sentence in one.wrong]
    more = [f"and {len(sentences) - SHOWN:,} more"] if len(sentences) > SHOWN else []
    return Figure(f"{what}: wrong verdicts", len(sentences), 0, COUNT, (*sentences[:SHOWN], *more))


def spread(probed: list[Probed]) -> Iterator[Figure]:
    seconds = [one.took.seconds for one in probed]
    if len(seconds) > 1:
        yield Figure("  median", statistics.median(seconds), None, SECONDS)
        yield Figure("  slowest", max(seconds), None, SECONDS)
    else:
        yield Figure("  seconds", seconds[0], None, SECONDS)


def beside_bucket(probed: list[Probed], ports: Ports, token: float) -> Figure:
    """The slowest run. token: seconds that one takes."""
    bucket = token * (Counter(ports.values())["closed"] - BURST)
    slowest = max(one.took.seconds for one in probed)
    return Figure(f"  beside the bucket ({bucket:.1f} s)", slowest / bucket, 1.1, RATIO)


def timed_start(port: int, state: str) -> float:
    """Seconds from start to end of a probe of one port, which has to be called `state`."""
    started = time.perf_counter()
    argv = [UDPKIT, "probe", "127.0.0.1", str(port)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    seconds = time.perf_counter() - started
    if f" {state} " not in done.stdout:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CannotRunError(f"udpkit did not call the port {state}: {''.join(last)}")
    return seconds


def by_kind(said: Ports, ports: Ports) -> tuple[str, ...]:
    """How many verdicts on each kind of port are right, wrong, undecided."""
    counts = Counter(judged(said, ports))
    return tuple(
        f"{kind:8}"
        + ", ".join(
            f"{counts[kind, word]} {word}" for word in ("right", "undecided", "wrong") if counts[kind, word]
        )
        for kind in dict.fromkeys([*PROPORTIONS, "closed"])
    )


def terminated(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/probe", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"run only these: {', '.join(PARTS)}")
    parser.add_argument(
        "--runs", type=int, default=8, help="of `host` and `loss`, at the same time (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, help="deals out the ports (default: another one each time)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PARTS):
        parser.error(f"no such name: {', '.join(sorted(unknown))}")
    if arguments.runs < 1:
        parser.error("--runs takes a number above 0")
    signal.signal(signal.SIGTERM, terminated)  # so that the hosts are taken down on the way out
    seed = SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    print(f"{f'seed {seed}':66}{'measured':>11}{'at most':>11}", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="udpkit-bench-") as directory, ExitStack() as stack:
        bench = Bench(seed, arguments.runs, Path(directory), stack)
        for name in arguments.names or PARTS:
            try:
                for figure in PARTS[name](bench):
                    print("\n".join(figure.lines(name)), flush=True)
                    failed |= figure.missed
            except CannotRunError as error:
                print(f"{name:8}no figure: {error}", flush=True)
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench/probe: interrupted")
    except LabError as error:
        sys.exit(f"bench/probe: {error}")
