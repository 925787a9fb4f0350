"""Playing an experiment's steps on fresh hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from udpkit.diagnosis import Finding, diagnose
from udpkit.evidence import Evidence, read_captures, read_pcap
from udpkit.facts import Case, Datagram, IcmpError, Reference, SocketEntry, SocketTable, Source
from udpkit.lab.commands import resolve
from udpkit.lab.errors import TimedOut
from udpkit.lab.experiment import Command, End, Experiment, Say, Sockets, Start, Step
from udpkit.lab.lab import Lab
from udpkit.lab.program import Program
from udpkit.lab.stage import build
from udpkit.lab.waiting import wait_until

SILENCE = 3.0
"""Seconds after which a line that was neither heard nor refused counts as lost."""

Fate = Literal["heard", "refused", "lost"]
"""What became of a line: printed by the other program, refused with an ICMP error, or neither."""


@dataclass(slots=True)
class Look:
    """A host's sockets, as a step looked at them: `when` in words."""

    on: str
    when: str
    table: SocketTable


@dataclass(slots=True)
class Played:
    """What was seen. `messages` are those of all captures, in the order of their times.

    `captures` are pcap files by `host.interface`; `said` has an entry for each Say.
    """

    case: Case
    messages: list[Datagram | IcmpError]
    captures: dict[str, bytes]
    looks: list[Look]
    said: list[tuple[Say, Fate]]
    notes: list[str]

    def findings(self) -> list[Finding]:
        """From the captured bytes and the socket tables alone."""
        return diagnose(self.case)


def play(
    experiment: Experiment,
    *,
    steps: Iterable[Step] | None = None,
    programs: Mapping[str, str] | None = None,
    commands: Mapping[str, Sequence[str]] | None = None,
) -> Played:
    """Build the hosts, take the steps, tear everything down.

    `steps` are taken instead of the experiment's, `programs` replaces the command lines of some programs,
    `commands` are shell lines run on hosts before the first step. Raises LabError.
    """
    with Lab() as lab:
        build(lab, experiment.hosts)
        for host, lines in (commands or {}).items():
            for line in lines:
                lab.hosts[host].shell(line)
        player = _Player(lab, experiment, programs or {})
        for step in experiment.steps if steps is None else steps:
            player.take(step)
        return player.played()


class _Player:
    def __init__(self, lab: Lab, experiment: Experiment, programs: Mapping[str, str]) -> None:
        self.lab = lab
        self.plans = experiment.programs
        self.lines = {name: programs.get(name, plan.run) for name, plan in self.plans.items()}
        self.captures = {
            name: lab.hosts[name.partition(".")[0]].capture(name.partition(".")[2])
            for name in experiment.capture
        }
        self.running: dict[str, Program] = {}
        self.looks: list[Look] = []
        self.said: list[tuple[Say, Fate]] = []
        self.notes: list[str] = []

    def take(self, step: Step) -> None:
        match step:
            case Start():
                self.start(step)
            case Say():
                self.said.append((step, self.say(step)))
            case Sockets(on):
                source = len(self.captures) + len(self.looks)
                when = f"after “{self.said[-1][0].text}”" if self.said else "at first"
                self.looks.append(Look(on, when, self.lab.hosts[on].udp_sockets(source)))
            case End(name):
                self.running[name].wait()
            case Command(on, run):
                self.lab.hosts[on].shell(run)

    def start(self, step: Start) -> None:
        host = self.lab.hosts[self.plans[step.program].on]
        command = resolve(self.lines[step.program])
        if command.note and command.note not in self.notes:
            self.notes.append(command.note)
        self.running[step.program] = host.run(*command.argv)
        if step.port is not None:
            host.wait_for_port(step.port, self.running[step.program])

    def say(self, step: Say) -> Fate:
        """Type the line, and see whether the other program prints it."""
        speaker, listener = self.running[step.by], self.running[step.to]
        line = step.text.encode() + b"\n"
        printed, refused = len(listener.output), self.errors_captured()

        def fate() -> Fate | None:
            if line in listener.output[printed:]:
                return "heard"
            return "refused" if self.errors_captured() > refused else None

        if not speaker.type(line):
            return "lost"
        try:
            return wait_until(fate, [speaker, listener, *self.captures.values()], timeout=SILENCE, what="")
        except TimedOut:
            return "lost"

    def errors_captured(self) -> int:
        """Each once, on however many links it was seen: the n-th of its kind is the same one on each."""
        kinds = Counter(
            (error.seen.source, replace(error, seen=Reference(0), time_ns=0))
            for error in _messages(self.captured())
            if isinstance(error, IcmpError)
        )
        once: Counter[IcmpError] = Counter()
        for (_, kind), count in kinds.items():
            once[kind] = max(once[kind], count)
        return once.total()

    def captured(self) -> dict[str, bytes]:
        return {name: capture.pcap() for name, capture in self.captures.items()}

    def played(self) -> Played:
        captures = self.captured()
        looks = [Source(f"{look.on}: sockets {look.when}", "sockets") for look in self.looks]
        tables = [look.table for look in self.looks]
        read, conversations, unjudged = read_captures(
            [Evidence.of(name, data) for name, data in captures.items()], tables=tables
        )
        return Played(
            case=Case([*read, *looks], tables=tables, conversations=conversations, unjudged=unjudged),
            messages=_messages(captures),
            captures=captures,
            looks=self.looks,
            said=self.said,
            notes=self.notes,
        )


def _messages(captures: Mapping[str, bytes]) -> list[Datagram | IcmpError]:
    messages = [
        message
        for index, (name, data) in enumerate(captures.items())
        for message in read_pcap(data, name, source=index)[1]
    ]
    return sorted(messages, key=lambda message: message.time_ns)


def socket_line(entry: SocketEntry) -> str:
    """`0.0.0.0:53 unconnected`, `a:p connected to b:q`."""
    return f"{entry.local} {f'connected to {entry.peer}' if entry.peer else 'unconnected'}"
