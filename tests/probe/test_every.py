"""`udpkit probe --every`: what it makes of answers, losses and errors, and how it tells."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from cli.command import UDPKIT, udpkit
from hypothesis import given
from hypothesis import strategies as st

from udpkit.cli.probe_every import Metrics
from udpkit.facts import Endpoint
from udpkit.lab import Host, Lab, Program, wait_until
from udpkit.probe.payload import payload_of
from udpkit.probe.protocols import PROTOCOLS
from udpkit.probe.result import State
from udpkit.probe.track import Event, RoundTrips, Tick, Track
from udpkit.probe.watch import MOST_PORTS, QUIET, Watch
from udpkit.probe.wire import Settings, Target
from udpkit.report.metrics import metrics
from udpkit.sockets import ErrorReport

HOST = IPv4Address("192.0.2.1")
ROUTER = IPv4Address("192.0.2.254")
OTHER = IPv4Address("198.51.100.1")
RTT = 0.001
ECHO = PROTOCOLS["echo"]  # its requests differ, and an answer says to which it belongs


@dataclass(frozen=True)
class Came:
    """A datagram, as far as a watch looks at it."""

    peer: Endpoint
    data: bytes


class World:
    """A watch, and a clock that is turned by hand."""

    def __init__(self, *ports: int, protocol: str = "echo", every: float = 1.0, timeout: float = 1.0) -> None:
        chosen = PROTOCOLS[protocol]
        self.events: list[Event] = []
        self.ticks: list[Tick] = []
        settings = Settings(lambda _: payload_of(chosen), timeout=timeout)
        target = Target("host.example", HOST, ports or (7000,))
        self.watch = Watch([target], settings, every, self.events.append, self.ticks.append)
        self.every = every
        self.now = 100.0
        self.seq = 0
        self.asked: dict[tuple[int, int], bytes] = {}

    @property
    def track(self) -> Track:
        return self.watch.tracks[0]

    def tick(self) -> list[int]:
        """Send to all ports; returns them in the order in which they were asked."""
        self.watch.expire(self.now)
        self.seq += 1
        order = self.watch.tick(self.seq)
        for track in order:
            payload = self.watch.payload(track)
            self.watch.ask(track, self.seq, payload, self.now)
            self.asked[self.seq, track.target.port] = payload.data
        return [track.target.port for track in order]

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.watch.expire(self.now)

    def answer(self, seq: int, port: int = 7000, peer: Endpoint | None = None, data: bytes = b"") -> None:
        data = data or self.asked[seq, port]
        self.watch.received(Came(peer or Endpoint(HOST, port), data), self.now)  # type: ignore[arg-type]

    def refuse(self, seq: int, port: int = 7000, *, offender: IPv4Address = HOST, quoted: int = 64) -> None:
        data = self.asked[seq, port][:quoted]
        report = ErrorReport(
            "port unreachable",
            errno.ECONNREFUSED,
            "icmp",
            3,
            3,
            Endpoint(HOST, port),
            None,
            offender,
            None,
            data,
        )
        self.watch.reported(report, self.now)

    def told(self) -> list[tuple[str, int, str | None]]:
        """(kind, seq, state) of all events since the last call."""
        told = [(one.kind, one.seq, one.state and one.state.value) for one in self.events]
        self.events.clear()
        return told

    def changes(self) -> list[str]:
        """States that were told as a change, since the last call of this or `told`."""
        return [state or "" for kind, _, state in self.told() if kind == "change"]


# What it makes of what comes.


def test_an_answer_belongs_to_the_request_that_it_names() -> None:
    world = World(every=0.1)
    for _ in range(3):
        world.tick()
        world.now += 0.1
    world.answer(3)
    world.answer(1)
    world.answer(3)
    assert world.told() == [
        ("reply", 3, "open"),
        ("change", 3, "open"),
        ("reply", 1, "open"),
        ("duplicate", 3, "open"),
    ]
    world.wait(1)
    world.answer(2)
    world.answer(2)
    assert world.told() == [("lost", 2, "open"), ("late", 2, "open"), ("duplicate", 2, "open")]
    track = world.track
    assert (track.sent, track.answered, track.lost, track.late, track.duplicates) == (3, 2, 1, 1, 2)


def test_without_identifiers_the_nearest_to_the_last_round_trip_is_taken() -> None:
    world = World(protocol="line", every=0.25, timeout=1)
    world.tick()
    world.now += 0.001
    world.answer(1, data=b"something")
    world.now += 0.249
    world.tick()  # is lost
    world.now += 0.25
    world.tick()
    world.now += 0.002
    world.answer(3, data=b"something")
    replies = [(one.seq, one.result and one.result.rtt) for one in world.events if one.kind == "reply"]
    assert replies == [(1, pytest.approx(0.001)), (3, pytest.approx(0.002))]


def test_the_first_answer_without_identifiers_is_to_the_first_question_and_after_losses_to_the_last() -> None:
    world = World(protocol="line", every=0.25, timeout=0.6)
    for _ in range(2):
        world.tick()
        world.now += 0.25
    world.answer(1, data=b"slow")
    assert world.told()[0] == ("reply", 1, "open")

    world = World(protocol="line", every=0.25, timeout=0.6)
    for _ in range(5):
        world.tick()
        world.now += 0.25
    world.answer(1, data=b"just started")
    assert [one for one in world.told() if one[0] == "reply"] == [("reply", 5, "open")]


def test_a_late_answer_without_identifiers_is_late() -> None:
    world = World(protocol="line")
    world.tick()
    world.wait(1)
    world.answer(1, data=b"at last")
    world.answer(1, data=b"at last")
    kinds = [kind for kind, _, _ in world.told()]
    assert kinds == ["lost", "late", "change", "duplicate"]


def test_one_loss_is_no_change_and_three_in_a_row_are() -> None:
    world = World()
    for lost in (False, True, True, False, True, True, True, True, False):
        world.tick()
        world.now += RTT
        if not lost:
            world.answer(world.seq)
        world.now += 1 - RTT
    changes = [one for one in world.events if one.kind == "change"]
    assert [(one.seq, one.was, one.state) for one in changes] == [
        (1, None, State.OPEN),
        (7, State.OPEN, State.SILENT),
        (9, State.SILENT, State.OPEN),
    ]
    assert changes[0].after is None
    # It was silent from the moment at which seq 7 was lost, one second after it was sent.
    assert changes[2].after == pytest.approx(1 + RTT)
    assert [tick.seq for tick in world.ticks] == list(range(1, 10))


def test_losses_between_answers_are_not_in_a_row_although_they_are_known_later() -> None:
    world = World(every=0.1)
    for seq in range(1, 8):
        world.tick()
        if seq % 2:
            world.answer(seq)
        world.now += 0.1
    world.wait(1)
    assert (world.track.lost, world.changes()) == (3, ["open"])


def test_the_moment_a_server_dies_and_comes_back() -> None:
    world = World()
    for fate in ("open", "refused", "refused", "open"):
        world.tick()
        world.now += RTT
        (world.answer if fate == "open" else world.refuse)(world.seq)
        world.now += 1 - RTT
    changes = [one for one in world.events if one.kind == "change"]
    assert [(one.seq, one.state) for one in changes] == [(1, State.OPEN), (2, State.CLOSED), (4, State.OPEN)]
    assert changes[2].after == pytest.approx(2)
    assert world.track.refused == 2


@pytest.mark.parametrize("every", [0.1, 1.0, 10.0])
def test_a_closed_port_stays_closed_while_errors_are_rate_limited(every: float) -> None:
    world = World(every=every)
    refused_at = -1.0
    for _ in range(200):
        world.tick()
        world.now += RTT
        if world.now >= refused_at + 1.1:
            refused_at = world.now
            world.refuse(world.seq)
        world.wait(every - RTT)
    assert world.changes() == ["closed"]
    # Then the host is gone.
    gone_at = world.now
    while world.track.state is State.CLOSED:
        assert world.now < gone_at + 100
        world.tick()
        world.wait(every)
    assert world.now - refused_at > max(QUIET, 3 * every)
    assert world.changes() == ["silent"]


def test_many_closed_ports_share_the_tokens_and_one_that_dies_is_seen_at_once() -> None:
    """One token a second for the whole host: it goes to the first closed port that a tick asks."""
    ports = list(range(7000, 7030))
    world = World(*ports)
    for round_ in range(150):
        dead = ports[:20] if round_ < 100 else ports[:21]
        order = world.tick()
        world.now += RTT
        for port in set(ports) - set(dead):
            world.answer(world.seq, port)
        world.refuse(world.seq, next(port for port in order if port in dead))
        world.wait(1 - RTT)
    seen: dict[int, list[tuple[int, str]]] = {}
    for one in world.events:
        if one.kind == "change" and one.state:
            seen.setdefault(one.track.target.port, []).append((one.seq, one.state.value))
    assert all([state for _, state in seen[port]][-1] == "closed" for port in ports[:21])
    assert all(len(seen[port]) <= 2 for port in ports[:20])  # silent before its turn, and then closed
    assert seen[7020] == [(1, "open"), (101, "closed")]
    assert all(seen[port] == [(1, "open")] for port in ports[21:])


def test_news_of_an_older_tick_changes_nothing() -> None:
    world = World(every=0.1)
    world.tick()
    world.now += 0.1
    world.tick()
    world.refuse(2)
    world.answer(1)
    assert world.changes() == ["closed"]


def test_an_error_finds_its_tick_by_what_it_quotes_and_may_quote_nothing() -> None:
    world = World(every=0.1)
    for _ in range(3):
        world.tick()
        world.now += 0.1
    world.refuse(2)
    assert world.told()[0] == ("refused", 2, "closed")
    world.refuse(1, quoted=0)
    assert world.told() == [("refused", 1, "closed")]  # the oldest, as nothing was lost yet
    world.wait(1)
    world.refuse(3)
    assert world.told() == [("lost", 3, "closed"), ("late", 3, "closed")]
    world.refuse(3)
    assert world.told() == []


def test_who_refuses_makes_the_difference() -> None:
    world = World()
    world.tick()
    world.refuse(1, offender=ROUTER)
    assert world.changes() == ["prohibited"]


def test_a_stray_does_not_pass_for_an_answer_while_the_right_one_may_come() -> None:
    world = World(protocol="line")
    world.tick()
    world.answer(1, peer=Endpoint(OTHER, 7000), data=b"me!")
    world.now += 0.5
    world.answer(1, data=b"no, me")
    world.answer(1, peer=Endpoint(OTHER, 7000), data=b"me!")
    assert world.told() == [("reply", 1, "open"), ("change", 1, "open")]
    assert world.watch.strays == 1


def test_an_answer_from_elsewhere_counts_once_none_came_from_the_right_place() -> None:
    world = World(protocol="line")
    world.tick()
    world.now += 0.25
    world.answer(1, peer=Endpoint(OTHER, 7000), data=b"wrong")
    assert world.told() == []
    world.wait(0.75)
    [reply, _] = world.events
    assert world.told() == [("reply", 1, "wrong-source"), ("change", 1, "wrong-source")]
    assert reply.result
    assert reply.result.rtt == pytest.approx(0.25)
    assert (world.track.wrong_source, world.track.lost) == (1, 0)


def test_an_answer_from_elsewhere_that_names_the_request_counts_at_once() -> None:
    world = World()
    for _ in range(2):
        world.tick()
    world.answer(2, peer=Endpoint(OTHER, 7000))
    assert world.told()[0] == ("reply", 2, "wrong-source")


def test_of_several_ports_the_wrong_source_is_told_by_port_or_by_what_it_says() -> None:
    world = World(7000, 7001)
    world.tick()
    world.tick()
    world.answer(1, 7001, peer=Endpoint(OTHER, 7001))
    assert (world.events[0].kind, world.events[0].track.target.port) == ("reply", 7001)
    world.answer(1, 7000, peer=Endpoint(OTHER, 9))
    assert world.watch.strays == 1


def test_at_the_end_what_came_from_elsewhere_counts() -> None:
    world = World(protocol="line")
    world.tick()
    world.answer(1, peer=Endpoint(OTHER, 7000), data=b"wrong")
    world.watch.finish(world.now)
    assert world.told() == [("reply", 1, "wrong-source"), ("change", 1, "wrong-source")]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.floats(0.01, 2)),
        st.tuples(st.sampled_from(["answer", "refuse", "stray", "noise"]), st.integers(1, 12)),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from(["echo", "line"]), st.sampled_from([0.3, 1.0]))
def test_whatever_comes_every_request_has_one_fate(
    steps: list[tuple[str, Any]], protocol: str, timeout: float
) -> None:
    world = World(7000, 7001, protocol=protocol, every=0.1, timeout=timeout)
    for what, argument in steps:
        if what == "tick":
            world.wait(argument)
            world.tick()
        elif what == "noise":
            world.watch.received(Came(Endpoint(OTHER, 7000 + argument % 2), b"noise"), world.now)  # type: ignore[arg-type]
        elif (argument, 7000) in world.asked:
            peer = Endpoint(OTHER, 7000) if what == "stray" else None
            if what == "refuse":
                world.refuse(argument)
            else:
                world.answer(argument, peer=peer)
    world.wait(timeout)
    for track in world.watch.tracks:
        assert track.sent == world.seq
        assert track.sent == track.answered + track.wrong_source + track.refused + track.lost
        assert track.late <= track.lost
        assert track.round_trips.count == track.answered + track.wrong_source
        told = Counter(one.kind for one in world.events if one.track is track)
        assert (told["reply"], told["refused"]) == (track.answered + track.wrong_source, track.refused)
        assert (told["lost"], told["late"], told["duplicate"]) == (track.lost, track.late, track.duplicates)
    assert len(world.ticks) == world.seq


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_quantiles_are_right_to_one_per_cent(values: list[float], share: float) -> None:
    trips = RoundTrips()
    for value in values:
        trips.add(value)
    place = -(-share * len(values) // 1)
    assert trips.quantile(share) == pytest.approx(sorted(values)[int(place) - 1], rel=0.0101)
    assert (trips.least, trips.most, sum(trips.buckets)) == (min(values), max(values), len(values))


# Metrics.

SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\} (\S+)')
LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"')


def parse(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """A strict reader of the text format: every sample stands under its family's HELP and TYPE."""
    assert text.endswith("\n")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    family, kind = "", ""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in found
            word, name, kind = next(lines).removeprefix("# ").split()
            assert (word, name) == ("TYPE", family)
            assert kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == family.endswith("_total")
            found[family] = {}
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        suffix = match[1].removeprefix(family)
        assert suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",)), line
        labels = tuple(
            (name, re.sub(r"\\(.)", lambda one: {"n": "\n"}.get(one[1], one[1]), value))
            for name, value in LABEL.findall(match[2])
        )
        assert labels not in found[family] or suffix in ("_sum", "_count")
        found[family][(*labels, *((("suffix", suffix),) if suffix else ()))] = float(match[3])
    return found


def test_metrics_say_what_happened_and_escape_labels() -> None:
    world = World(7000, 7001)
    name = 'a "quoted"\\ name\nwith a line end'
    for track in world.watch.tracks:
        track.host = name
    for _ in range(2):
        world.tick()
        world.now += 0.002
        world.answer(world.seq)
        world.refuse(world.seq, 7001)
        world.wait(1)
    found = parse(metrics(world.watch.tracks, {world.track: 1234.5}))
    port = (("host", name), ("address", str(HOST)), ("port", "7000"))
    closed = (*port[:2], ("port", "7001"))
    assert found["udpkit_probe_sent_total"] == {port: 2, closed: 2}
    assert found["udpkit_probe_answered_total"] == {port: 2, closed: 0}
    assert found["udpkit_probe_refused_total"] == {port: 0, closed: 2}
    assert found["udpkit_probe_up"] == {port: 1, closed: 0}
    assert found["udpkit_probe_rtt_seconds"] == {port: pytest.approx(0.002)}
    assert found["udpkit_probe_last_change_timestamp_seconds"] == {port: 1234.5}
    states = found["udpkit_probe_state"]
    assert [dict(labels)["state"] for labels, value in states.items() if value] == ["open", "closed"]
    assert len(states) == 2 * len(State)
    trips = {
        labels: value
        for labels, value in found["udpkit_probe_round_trip_seconds"].items()
        if port[2] in labels
    }
    buckets = [value for labels, value in trips.items() if "le" in dict(labels)]
    assert buckets == sorted(buckets)
    assert trips[(*port, ("le", "0.001"), ("suffix", "_bucket"))] == 0
    assert trips[(*port, ("le", "0.0025"), ("suffix", "_bucket"))] == 2
    assert trips[(*port, ("le", "+Inf"), ("suffix", "_bucket"))] == 2
    assert trips[(*port, ("suffix", "_count"))] == 2


def test_before_the_first_answer_there_are_metrics_too() -> None:
    found = parse(metrics(World().watch.tracks, {}))
    assert set(found["udpkit_probe_up"].values()) == {0}
    assert found["udpkit_probe_rtt_seconds"] == {}


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    world = World(*range(7000, 7100))
    file = tmp_path / "udpkit.prom"
    metrics_file = Metrics(file, world.watch.tracks, {})
    metrics_file.write()
    done = threading.Event()
    seen: list[str] = []

    def read() -> None:
        while not done.is_set() or not seen:
            seen.append(file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(100):
            world.tick()
            metrics_file.write()
    finally:
        done.set()
        reader.join()
    whole = len(file.read_text().splitlines())
    assert {len(text.splitlines()) for text in seen} == {whole}
    assert list(tmp_path.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_disk_that_fails_meanwhile_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    metrics_file = Metrics(folder / "udpkit.prom", World().watch.tracks, {})
    metrics_file.write_or_say()
    (folder / "udpkit.prom").unlink()
    folder.rmdir()
    for _ in range(2):
        metrics_file.write_or_say()
    assert len(capsys.readouterr().err.splitlines()) == 1


# The verb.

USAGE = {
    "--every soon": "soon is not a number of seconds",
    "--every 0": "0 is not between 10ms and a day",
    "--every -1": "-1 is not between 10ms and a day",
    "--every 9ms": "9ms is not between 10ms and a day",
    "--every 25h": "25h is not between 10ms and a day",
    "--every nan": "nan is not a number of seconds",
    "--every 10ms --timeout 3000": "more than 65,536 requests at a time",
    "--every 1s --rate 0.5": "more than --rate 0.5 allows",
    "--every 1s --source 192.0.2.1": "192.0.2.1: Cannot assign requested address",
    "--every 1s --prometheus /nowhere/udpkit.prom": "/nowhere/udpkit.prom: No such file or directory",
}


@pytest.mark.parametrize("arguments", USAGE)
def test_wrong_usage_is_one_line(arguments: str) -> None:
    run = udpkit("probe", "127.0.0.1", "7000", *arguments.split())
    assert (run.returncode, run.stdout) == (2, "")
    assert USAGE[arguments] in run.stderr
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_metrics_take_the_place_of_no_device_pipe_or_folder(tmp_path: Path, kind: str) -> None:
    """Never tried on a real device: if this went wrong as root, the machine would lose it."""
    path = tmp_path / kind
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    before = path.stat()
    run = udpkit("probe", "127.0.0.1", "7000", "--every", "1s", "--count", "1", "--prometheus", path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"udpkit: {path}: not a regular file\n"
    assert (path.stat().st_mode, path.stat().st_ino) == (before.st_mode, before.st_ino)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("given", "lines"), [((), 0), (("--retries", "0"), 0), (("--retries", "3"), 1)])
def test_retries_are_not_used_and_who_wants_some_is_told(given: tuple[str, ...], lines: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        arguments = ("--every", "1s", "--count", "1", "--timeout", "0.1", *given)
        run = udpkit("probe", "127.0.0.1", str(silent.getsockname()[1]), *arguments)
    assert (run.returncode, run.stderr.count("--retries is not used")) == (3, lines)
    assert len(run.stderr.splitlines()) == lines
    assert "1 sent" in run.stdout


def test_too_many_ports_are_one_line() -> None:
    run = udpkit("probe", "127.0.0.1", f"1-{MOST_PORTS + 1}", "--every", "1s")
    assert (run.returncode, run.stdout) == (2, "")
    assert "1,025 ports are too many to keep asking: 1,024 at most" in run.stderr
    assert len(run.stderr.splitlines()) == 1


@dataclass(frozen=True)
class Stage:
    """docker0's story: what the server answers leaves from 172.17.0.1 unless it is told otherwise."""

    server: Host
    client: Host
    asked: str = "172.16.13.13"
    routed: str = "172.17.0.1"

    def probe(self, *arguments: str) -> Program:
        return self.client.run(UDPKIT, "probe", *arguments)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        stage = Stage(lab.host("server"), lab.host("client"))
        stage.server.bridge("docker0", "172.17.0.1/16")
        lab.link(stage.client, "eth0", stage.server, "docker0")
        lab.plug(stage.server, "eth0")
        stage.server.address("eth0", "172.16.13.13/24")
        stage.client.address("eth0", "172.17.0.3/16")
        stage.client.ip("route add default via 172.17.0.1")
        yield stage


@dataclass
class Server:
    """Answers everything with what was asked, so many times; remembers who asked."""

    sock: socket.socket
    copies: int = 1
    behind: int = 0
    """So many requests later."""
    peers: set[tuple[str, int]] = field(default_factory=set)

    def run(self) -> None:
        kept: list[tuple[bytes, tuple[str, int]]] = []
        while True:
            data, peer = self.sock.recvfrom(2048)
            if data == b"end":
                return
            self.peers.add(peer)
            kept.append((data, peer))
            if len(kept) > self.behind:
                for _ in range(self.copies):
                    self.sock.sendto(*kept[0])
                kept.pop(0)


@contextmanager
def serving(host: Host, address: str, port: int, **how: int) -> Iterator[Server]:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    with host.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        server = Server(sock, **how)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            with host.socket(family, socket.SOCK_DGRAM) as ending:
                local = (
                    ("::1" if family == socket.AF_INET6 else "127.0.0.1")
                    if address in ("::", "0.0.0.0")
                    else address
                )
                ending.sendto(b"end", (local, port))
            thread.join()


def heard(program: Program, what: str, times: int = 1) -> None:
    """Wait until it has told this."""
    wait_until(
        lambda: program.output.count(what.encode()) >= times or program.status is not None,
        [program],
        timeout=30,
        what=f"{what} was not told",
    )
    assert program.output.count(what.encode()) >= times, (program.output, program.errors)


def events(program: Program) -> list[dict[str, Any]]:
    """What it has told in whole lines."""
    return [
        json.loads(line) for line in program.output.decode().splitlines(keepends=True) if line.endswith("\n")
    ]


def summary(program: Program) -> list[dict[str, Any]]:
    last = events(program)[-1]
    assert last["event"] == "summary"
    results: list[dict[str, Any]] = last["results"]
    return results


@pytest.mark.parametrize("kill", ["socket", "reject"])
def test_a_server_that_dies_and_comes_back_is_seen_from_one_socket(stage: Stage, kill: str) -> None:
    with serving(stage.server, stage.asked, 7000) as before:
        probe = stage.probe(stage.asked, "7000", "--as", "echo", "--every", "100ms")
        heard(probe, "seq 2  open")
    heard(probe, "went from open to closed (ICMP port unreachable, said by the host itself)")
    heard(probe, "still closed")
    with serving(stage.server, stage.asked, 7000) as after:
        heard(probe, "back: open after")
        if kill == "reject":
            rule = f"iptables {{}} FORWARD -d {stage.asked} -j REJECT --reject-with icmp-admin-prohibited"
            rule = rule.replace("FORWARD", "INPUT")
            stage.server.shell(rule.format("-I"))
            heard(probe, "went from open to prohibited")
            stage.server.shell(rule.format("-D"))
            heard(probe, "back: open after", 2)
        assert probe.stop(signal.SIGINT) == 130
        assert before.peers == after.peers
        assert len(before.peers) == 1
    lines = probe.output.decode().splitlines()
    assert lines[-3] == f"--- {stage.asked}:7000: open ---"
    assert re.fullmatch(r"\d+ sent, \d+ answered, [\d.]+ % lost, \d+ refused.*", lines[-2])
    assert re.fullmatch(r"round trip min/median/p95/max [\d.]+/[\d.]+/[\d.]+/[\d.]+ ms", lines[-1])
    assert probe.errors == b""


def test_losses_are_counted_exactly(stage: Stage) -> None:
    stage.server.shell("iptables -I INPUT -p udp -m statistic --mode nth --every 5 --packet 2 -j DROP")
    with serving(stage.server, stage.asked, 7000):
        probe = stage.probe(stage.asked, "7000", "--as", "echo", "--every", "50ms", "--count", "20", "--json")
        assert probe.wait(30) == 0
        told = events(probe)
        stage.server.shell("iptables -F INPUT")  # the server's end comes through
    [result] = summary(probe)
    assert [one["seq"] for one in told if one["event"] == "lost"] == [3, 8, 13, 18]
    assert (result["sent"], result["answered"], result["lost"], result["loss_percent"]) == (20, 16, 4, 20)
    assert [one["state"] for one in told if one["event"] == "change"] == ["open"]


def test_second_answers_are_duplicates_and_late_ones_late(stage: Stage) -> None:
    with serving(stage.server, stage.asked, 7000, copies=2):
        probe = stage.probe(stage.asked, "7000", "--as", "echo", "--every", "50ms", "--count", "10", "--json")
        assert probe.wait(30) == 0
    [result] = summary(probe)
    assert result["answered"] == 10
    assert 9 <= result["duplicates"] <= 10  # the very last one may come after the end
    with serving(stage.server, stage.asked, 7001, behind=1):
        probe = stage.probe(
            stage.asked,
            "7001",
            "--as",
            "echo",
            "--every",
            "400ms",
            "--timeout",
            "0.1",
            "--count",
            "5",
            "--json",
        )
        assert probe.wait(30) == 0
    [result] = summary(probe)
    assert (result["answered"], result["lost"], result["late"], result["duplicates"]) == (0, 5, 4, 0)
    assert result["state"] == "open"
    assert {one["seq"] for one in events(probe) if one["event"] == "late"} == {1, 2, 3, 4}


@pytest.mark.parametrize("protocol", ["echo", "line"])
def test_answers_from_a_wrong_address_are_told_as_such(stage: Stage, protocol: str) -> None:
    with serving(stage.server, "0.0.0.0", 7000):
        arguments = ("--as", protocol, "--every", "100ms", "--count", "5", "--json")
        probe = stage.probe(stage.asked, "7000", *arguments)
        assert probe.wait(30) == 1
    [result] = summary(probe)
    assert (result["state"], result["wrong_source"], result["lost"]) == ("wrong-source", 5, 0)
    replies = [one for one in events(probe) if one["event"] == "reply"]
    assert {one["reply_from"] for one in replies} == {f"{stage.routed}:7000"}


def test_every_line_is_an_event_of_the_schema(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "udpkit.prom"
    with serving(stage.server, stage.asked, 7000):
        arguments = ("--every", "100ms", "--count", "3", "--json", "--prometheus", str(file))
        probe = stage.probe(stage.asked, "7000-7001", *arguments)
        assert probe.wait(30) == 1
    *told, last = events(probe)
    keys = {
        *("schema", "time", "event", "host", "address", "port", "seq", "state", "rtt_ms", "reply_from"),
        *("answer", "icmp", "evidence"),
    }
    for one in told:
        assert one.keys() == (keys | {"was", "after_ms"} if one["event"] == "change" else keys)
        assert one["schema"] == 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
        assert (one["address"], one["host"]) == (stage.asked, stage.asked)
    assert Counter((one["event"], one["port"]) for one in told) == {
        ("reply", 7000): 3,
        ("refused", 7001): 3,  # of Linux's burst of six
        ("change", 7000): 1,
        ("change", 7001): 1,
    }
    assert {one["icmp"]["kind"] for one in told if one["event"] == "refused"} == {"port unreachable"}
    assert [(one["port"], one["state"]) for one in last["results"]] == [(7000, "open"), (7001, "closed")]
    assert last["results"][0]["rtt_ms"].keys() == {"min", "median", "p95", "max"}
    assert last["results"][1]["rtt_ms"] is None

    found = parse(file.read_text())
    of = {
        port: (("host", stage.asked), ("address", stage.asked), ("port", port)) for port in ("7000", "7001")
    }
    assert found["udpkit_probe_sent_total"] == {of["7000"]: 3, of["7001"]: 3}
    assert found["udpkit_probe_up"] == {of["7000"]: 1, of["7001"]: 0}
    assert found["udpkit_probe_last_change_timestamp_seconds"].keys() == {of["7000"], of["7001"]}


def test_of_several_ports_a_line_a_tick_and_the_changes_are_shown(stage: Stage) -> None:
    with serving(stage.server, stage.asked, 7000):
        probe = stage.probe(stage.asked, "7000,7001", "--every", "100ms", "--count", "2")
        assert probe.wait(30) == 1
    lines = probe.output.decode().splitlines()
    assert next(line for line in lines if line.startswith("seq 1 ")).startswith(
        "seq 1  1 answered, 1 refused  "
    )
    assert any(re.match(r"\d\d:\d\d:\d\d\.\d{3}  172.16.13.13:7000  is open \(", line) for line in lines)
    assert any("172.16.13.13:7001  is closed (ICMP port unreachable" in line for line in lines)
    assert sum(line.startswith("---") for line in lines) == 2


def test_silence_and_no_verdict_yet_end_with_3(stage: Stage) -> None:
    stage.server.shell("iptables -I INPUT -p udp -j DROP")
    for count, state in ((1, "no verdict yet"), (3, "silent")):
        probe = stage.probe(stage.asked, "7000", "--every", "50ms", "--timeout", "0.2", "--count", str(count))
        assert probe.wait(30) == 3
        assert f"--- {stage.asked}:7000: {state} ---" in probe.output.decode()
        assert f"seq {count}  no answer within 0.2 s" in probe.output.decode()


def test_a_rule_of_this_host_is_told_and_its_end_too(stage: Stage) -> None:
    stage.client.shell("iptables -I OUTPUT -p udp -j DROP")
    with serving(stage.server, stage.asked, 7000):
        probe = stage.probe(stage.asked, "7000", "--every", "50ms")
        heard(probe, "prohibited")
        stage.client.shell("iptables -F OUTPUT")
        heard(probe, "went from prohibited to open")
        assert probe.stop(signal.SIGINT) == 130


def test_both_families_at_once(stage: Stage) -> None:
    with serving(stage.client, "127.0.0.1", 7000), serving(stage.client, "::1", 7000):
        probe = stage.probe("127.0.0.1,::1", "7000", "--every", "50ms", "--count", "3", "--json")
        assert probe.wait(30) == 0
    assert [(one["address"], one["answered"]) for one in summary(probe)] == [("127.0.0.1", 3), ("::1", 3)]


def test_a_reader_that_goes_away_ends_it_quietly(stage: Stage) -> None:
    with serving(stage.server, stage.asked, 7000):
        line = f"{UDPKIT} probe {stage.asked} 7000 --every 10ms | head -1; echo ${{PIPESTATUS[0]}}"
        piped = stage.client.run("bash", "-c", line)
        assert piped.wait(30) == 0
    assert piped.output.decode().splitlines()[1:] == ["0"]
    assert piped.errors == b""


def test_a_dead_neighbour_is_unreachable_and_stays_so(stage: Stage) -> None:
    """The kernel tells it every three seconds, of all that was sent meanwhile."""
    probe = stage.probe("172.17.0.99", "7000", "--every", "100ms", "--json")
    unreachable = '"event": "change", "host": "172.17.0.99", "address": "172.17.0.99", "port": 7000'
    heard(probe, unreachable, 2)
    seq = max(one["seq"] for one in events(probe) if one.get("icmp"))
    wait_until(
        lambda: any(one.get("icmp") and one["seq"] > seq + 10 for one in events(probe)),
        [probe],
        timeout=30,
        what="the kernel did not find out again",
    )
    assert probe.stop(signal.SIGINT) == 130
    assert [one["state"] for one in events(probe) if one["event"] == "change"] == ["silent", "unreachable"]
    [result] = summary(probe)
    assert result["state"] == "unreachable"
    assert result["late"] > 0
