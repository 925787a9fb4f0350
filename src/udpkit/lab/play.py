"""Playing an experiment's steps on fresh hosts."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from udpkit.diagnosis import Finding, diagnose
from udpkit.evidence import Evidence, read_captures, read_pcap, read_strace
from udpkit.evidence.programs import NOT_FOUND, find
from udpkit.facts import Case, Datagram, IcmpError, Reference, SocketEntry, SocketTable, Source
from udpkit.lab.commands import FIX_RUN, meant, resolve
from udpkit.lab.errors import CommandFailed, LabError, LabUnavailable, ProgramMissing, TimedOut, Unfit
from udpkit.lab.experiment import (
    Command,
    End,
    Experiment,
    Fate,
    Prints,
    Say,
    Sockets,
    Start,
    Step,
    Stop,
    Type,
)
from udpkit.lab.keeper import can_make_hosts
from udpkit.lab.lab import Lab
from udpkit.lab.patterns import first_fit
from udpkit.lab.program import Program
from udpkit.lab.stage import build
from udpkit.lab.waiting import Cancel, Watched, wait_until

SILENCE = 5.0
"""Seconds after which a line that was neither heard nor refused counts as lost: a neighbor that does not
answer is given up after three."""
LOST = 0.5
"""The same, for a line that is expected to be lost."""
SIGNALS = {"TERM": signal.SIGTERM, "KILL": signal.SIGKILL, "INT": signal.SIGINT}
PATIENCE = 30.0
"""Seconds that a step's shell line may take."""
LONGEST = 200
LAST = 5
"""Characters of a line, and lines, that are told of what a program printed."""

STRACE = "strace -f -ttt -yy -s 256 -e trace=%network,read,write,close -o /dev/fd/9"
WATCHED = ["sh", "-c", f'command -v strace >&2 || exit 127; exec {STRACE} "$@" 9>&2 2>&1', "sh"]
"""The log takes the place of the program's errors, which come with its output."""
UDP_CALL = re.compile(r"^(?:\d+ +)?[\d.]+ (\w+\(\d+<UDP.*)$", re.MULTILINE)
DESCRIPTOR = re.compile(r"^(\w+\(\d+)<UDP(?:v6)?:\[.*?\]>")


@dataclass(slots=True)
class Look:
    """A host's sockets, as a step looked at them: `when` in words."""

    on: str
    when: str
    table: SocketTable


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken, and what was seen: lines of text. The last is the cell of the step's column."""

    step: Step
    seen: list[str]


@dataclass(slots=True)
class Played:
    """What was seen. `messages` are those of all captures, in the order of their times.

    `captures` are pcap files by `host.interface`; `said` has an entry for each Say; `calls` the system calls
    on UDP sockets of each traced program. `unexpected` is in words what steps did not find, `ended` which
    programs ended by themselves with an error that no step waited for, with the words of each.
    """

    case: Case
    messages: list[Datagram | IcmpError]
    captures: dict[str, bytes]
    looks: list[Look]
    said: list[tuple[Say, Fate]]
    taken: list[Taken]
    calls: dict[str, list[str]]
    unexpected: list[str]
    ended: dict[str, str]
    notes: list[str]

    def findings(self) -> list[Finding]:
        """From the captured bytes and the socket tables alone."""
        return diagnose(self.case)


class StepFailed(LabError):
    """A step did not go as it must; `played` is what was seen until then."""

    def __init__(self, why: str, played: Played) -> None:
        super().__init__(why)
        self.played = played


def play(
    experiment: Experiment,
    *,
    steps: Iterable[Step] | None = None,
    programs: Mapping[str, str] | None = None,
    commands: Mapping[str, Sequence[str]] | None = None,
    stage: Callable[[Lab], object] | None = None,
    cancels: Sequence[Cancel] = (),
) -> Played:
    """Build the hosts, take the steps, tear everything down.

    `steps` are taken instead of the experiment's, `programs` replaces the command lines of some programs,
    `commands` are shell lines run on hosts before the first step. `stage` builds the hosts instead of what
    the experiment says of them. `cancels` end the waiting for lines. Raises LabError.
    """
    with _lab(experiment) as lab:
        try:
            if stage:
                stage(lab)
            else:
                build(lab, experiment.hosts)
        except CommandFailed:
            _check_needs(lab, experiment)
            raise
        _check_needs(lab, experiment)
        for host, lines in (commands or {}).items():
            for line in lines:
                lab.hosts[host].shell(line)
        player = Player(lab, experiment, programs or {}, cancels)
        try:
            for step in experiment.steps if steps is None else steps:
                try:
                    player.take(step)
                except (CommandFailed, TimedOut) as error:
                    raise StepFailed(str(error), player.played()) from error
            return player.played()
        finally:
            player.end_fixes()


def _check_needs(lab: Lab, experiment: Experiment) -> None:
    """On the first host. What is missing may be why the hosts could not be built. Raises Unfit."""
    for what, line in experiment.needs.items():
        if next(iter(lab.hosts.values())).fed("", "sh", "-c", line).status != 0:
            raise Unfit(f"this machine has no {what}")


def _lab(experiment: Experiment) -> Lab:
    engines = any(plan.docker for plan in experiment.hosts.values())
    try:
        return Lab(user_namespace=engines)
    except LabUnavailable as error:
        if engines and can_make_hosts():
            raise Unfit(f"a Docker engine of the lab's takes a user namespace: {error}") from error
        raise


class Player:
    """Takes the steps of an experiment on hosts that stand, and captures."""

    def __init__(
        self,
        lab: Lab,
        experiment: Experiment,
        programs: Mapping[str, str],
        cancels: Sequence[Cancel] = (),
    ) -> None:
        self.cancels = cancels
        self.lab = lab
        self.plans = experiment.programs
        self.lines = {name: programs.get(name, plan.run) for name, plan in self.plans.items()}
        self.captures = {
            name: lab.hosts[name.partition(".")[0]].capture(name.partition(".")[2])
            for name in experiment.capture
        }
        self.running: dict[str, Program] = {}
        self.dismissed: set[str] = set()
        self.found: dict[str, int] = {}
        self.traces: dict[str, list[Program]] = {}
        self.looks: list[Look] = []
        self.said: list[tuple[Say, Fate]] = []
        self.taken: list[Taken] = []
        self.unexpected: list[str] = []
        self.notes: list[str] = []

    def take(self, step: Step) -> None:
        seen: list[str] = []
        match step:
            case Start():
                self.start(step)
            case Say():
                self.said.append((step, self.say(step)))
                seen = [self.said[-1][1]]
            case Type(name, text):
                if not self.running[name].type(f"{text}\n".encode()):
                    raise CommandFailed(f"{name} has ended: {self.words(name)}")
            case Prints():
                seen = [self.prints(step)]
            case Sockets(on):
                source = len(self.captures) + len(self.looks)
                when = f"after “{self.said[-1][0].text}”" if self.said else "at first"
                self.looks.append(Look(on, when, self.lab.hosts[on].udp_sockets(source)))
                seen = [socket_line(entry) for entry in self.looks[-1].table.entries]
            case End(name):
                self.dismissed.add(name)
                self.running[name].wait()
            case Stop(name, number):
                self.dismissed.add(name)
                self.running[name].stop(SIGNALS[number])
            case Command():
                seen = self.command(step)
        self.taken.append(Taken(step, seen))

    def start(self, step: Start) -> None:
        plan = self.plans[step.program]
        host = self.lab.hosts[plan.on]
        try:
            command = resolve(self.lines[step.program])
            program = host.run(*(WATCHED if plan.trace else []), *command.argv)
        except ProgramMissing as error:
            who = f" (program {step.program}, on host {plan.on}){meant(error.program)}"
            raise ProgramMissing(error.program, who) from error
        if command.note and command.note not in self.notes:
            self.notes.append(command.note)
        self.running[step.program] = program
        self.dismissed.discard(step.program)
        self.found[step.program] = 0
        if plan.trace:
            if find("strace") is None:
                raise ProgramMissing("strace")
            self.traces.setdefault(step.program, []).append(program)
        if step.port is not None:
            try:
                host.wait_for_port(step.port, program)
            except CommandFailed as error:
                raise CommandFailed(f"{step.program} has ended: {self.words(step.program)}") from error

    def prints(self, step: Prints) -> str:
        """Wait for the line that fits the pattern; what came before it is passed over."""
        program = self.running[step.program]
        errors = b"" if self.plans[step.program].trace else program.errors

        def fitting() -> str | None:
            lines = _lines(bytes(program.output) + bytes(errors))
            if (place := first_fit(step.text, lines, self.found[step.program])) is None:
                if program.status is not None:
                    raise CommandFailed(f"{step.program} has ended: {self.words(step.program)}")
                return None
            self.found[step.program] = place + 1
            return lines[place]

        what = f"{step.program} did not print “{step.text}”"
        try:
            return wait_until(fitting, [program], timeout=PATIENCE, what=what)
        except TimedOut as error:
            rest = _lines(bytes(program.output) + bytes(errors))[self.found[step.program] :]
            last = " / ".join(line[:LONGEST] for line in rest[-LAST:])
            raise TimedOut(f"{error}; it printed {last or 'nothing'}") from error

    def command(self, step: Command) -> list[str]:
        program = self.lab.hosts[step.on].fed("", "sh", "-c", step.run, timeout=PATIENCE)
        lines = _lines(bytes(program.output) + bytes(program.errors))
        if program.status == 127 and (missing := NOT_FOUND.search(program.last_words())):
            raise ProgramMissing(missing[1], f" ({step.on}: {step.run}){meant(missing[1])}")
        if program.status != step.status:
            what = f"exit status {program.status}, expected {step.status}: {program.last_words()}"
            raise CommandFailed(f"{step.on}: {step.run}: {what}")
        place = 0
        for pattern in step.prints:
            found = first_fit(pattern, lines, place)
            if found is None:
                printed = " / ".join(lines[place:]) or "nothing"
                self.unexpected.append(f"{step.on}: {step.run} printed {printed}, expected {pattern}")
                return lines
            place = found + 1
        return lines

    def end_fixes(self) -> None:
        """All else ends with the lab; a fix under a program has a cgroup, which is outside of it."""
        for program in self.running.values():
            if program.argv[: len(FIX_RUN)] == FIX_RUN:
                with suppress(LabError):
                    program.stop()

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
        timeout = LOST if step.fate == "lost" else SILENCE
        try:
            watched: list[Watched] = [speaker, listener, *self.captures.values(), *self.cancels]
            return wait_until(fate, watched, timeout=timeout, what="")
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

    def logs(self) -> dict[str, str]:
        """What strace saw of each traced program, which ends with this."""
        logs: dict[str, str] = {}
        for name, programs in self.traces.items():
            try:  # strace itself blocks the signal, and writes down what there is until its program has ended
                programs[-1].stop(SIGNALS["TERM"])
            except TimedOut:
                programs[-1].stop(SIGNALS["KILL"])
            logs[name] = "".join(program.errors.decode(errors="replace") for program in programs)
        return logs

    def ended_by_themselves(self) -> dict[str, str]:
        """What there is to say of each, and its words; not of those that a step has ended, or waited for."""
        told: dict[str, str] = {}
        for name, program in self.running.items():
            program.drain()
            if program.status and name not in self.dismissed:
                words = self.words(name)
                line = f"{name} on {self.plans[name].on} ({self.lines[name]})"
                told[f"{line} ended by itself with status {program.status}: {words}"] = words
        return told

    def words(self, name: str) -> str:
        """The first and last line of a program's errors, else of its output, else its exit status.

        Who is called wrongly may say so first, before the usage, and who fails last, after a traceback. What
        a traced program says of its errors comes with its output; strace has the place of them.
        """
        program = self.running[name]
        said = program.output if self.plans[name].trace else program.errors or program.output
        lines = [line.strip()[:LONGEST] for line in _lines(bytes(said)) if line.strip()]
        ends = dict.fromkeys([lines[0], lines[-1]]) if lines else [f"exit status {program.status}"]
        return " … ".join(ends)

    def played(self) -> Played:
        ended = self.ended_by_themselves()
        captures, logs = self.captured(), self.logs()
        looks = [Source(f"{look.on}: sockets {look.when}", "sockets") for look in self.looks]
        tables = [look.table for look in self.looks]
        traces = [
            read_strace(
                Evidence.of(f"{name}.strace", log.encode()), source=len(captures) + len(looks) + number
            )
            for number, (name, log) in enumerate(logs.items())
            if log
        ]
        read, conversations, unjudged = read_captures(
            [Evidence.of(name, data) for name, data in captures.items()], tables=tables
        )
        return Played(
            case=Case(
                [*read, *looks, *(source for source, _ in traces)],
                tables=tables,
                conversations=conversations,
                traces=[socket for _, sockets in traces for socket in sockets],
                unjudged=unjudged,
            ),
            messages=_messages(captures),
            captures=captures,
            looks=self.looks,
            said=self.said,
            taken=self.taken,
            calls={name: udp_calls(log) for name, log in logs.items()},
            unexpected=self.unexpected,
            ended=ended,
            notes=self.notes,
        )


def _messages(captures: Mapping[str, bytes]) -> list[Datagram | IcmpError]:
    messages = [
        message
        for index, (name, data) in enumerate(captures.items())
        for message in read_pcap(data, name, source=index)[1]
    ]
    return sorted(messages, key=lambda message: message.time_ns)


def udp_calls(log: str) -> list[str]:
    """Those lines of a log of strace that are calls on UDP sockets, without process, time and address."""
    return [DESCRIPTOR.sub(r"\1", call) for call in UDP_CALL.findall(log)]


def _lines(printed: bytes) -> list[str]:
    return printed.decode(errors="replace").splitlines()


def socket_line(entry: SocketEntry) -> str:
    """`0.0.0.0:53 unconnected`, `a:p connected to b:q`."""
    return f"{entry.local} {f'connected to {entry.peer}' if entry.peer else 'unconnected'}"
