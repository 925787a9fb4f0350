"""Running the test: a server on a host with several addresses, each of them asked."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from udpkit.evidence.programs import find
from udpkit.facts import Endpoint
from udpkit.facts.text import in_one_line
from udpkit.lab.errors import LabError, ProgramMissing, TimedOut
from udpkit.lab.lab import Lab
from udpkit.lab.multihomed.asking import Listener, Request
from udpkit.lab.multihomed.matrix import How, Kind, Matrix, Outcome, Port, Trial, judge, takes
from udpkit.lab.multihomed.serving import Serving
from udpkit.lab.multihomed.stage import PLACES, Place, Stage, build
from udpkit.lab.program import Program
from udpkit.probe.payload import Payload, payload_for

PACE = 0.15
"""Seconds for which an answer holds up the next request, at least; later ones are heard all the same."""
TYPE = 0.1
"""Seconds after which a line is typed once more."""
NOT_READY = 10.0
"""Seconds for which requests may wait in the server's sockets: some open their port before they are ready."""
REFUSED = 0.02
"""Seconds in which a refusal is back."""
LONGEST = 120.0
"""Seconds for all of it, after the server's start."""
CLIENT_PATIENCE = 10.0
"""Seconds for each run of a client's program, at least."""
MOST_DEATHS = 3
"""So often a server that never answers is started anew after it has ended."""
OWN = {place.address for place in PLACES}
OF_CLIENT = "client"
"""The protocol where a program asks."""
LONGEST_WORDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and to ask.

    ports: none: those that the server opens. payload: by port. client: the words of a program to run
    instead, with {address}, {host} (in brackets if IPv6) and {port}. typed: what is typed at the server's
    standard input for each request. timeout: seconds that an answer may take. trace:
    under strace, if there is one.
    """

    command: Sequence[str]
    ports: Sequence[int] = ()
    payload: Callable[[int], Payload] = payload_for
    client: Sequence[str] = ()
    typed: bytes = b""
    timeout: float = 1.0
    trace: bool = True

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("client",) if self.client else ("connected", "unconnected")


@dataclass(slots=True)
class _Try:
    """A request on its way to being a trial."""

    place: Place
    kind: Kind
    asked: Endpoint
    payload: Payload
    listens: bool | None = True
    request: Request | None = None
    outcome: Outcome = "untried"
    answers: list[tuple[Endpoint, bytes, float]] = field(default_factory=list)
    client_ports: list[int] = field(default_factory=list)
    note: str = ""


def run(plan: Plan, progress: Callable[[int, int], object] = lambda _done, _total: None) -> Matrix:
    """Start the server, ask it, end it. `progress` is called with the requests made and those there are.

    Raises LabUnavailable, ProgramMissing, ServerEnded, NoPort, LabError.
    """
    if plan.client and find(plan.client[0]) is None:
        raise ProgramMissing(plan.client[0])
    with Lab() as lab:
        return on_stage(build(lab), plan, progress)


def on_stage(
    stage: Stage, plan: Plan, progress: Callable[[int, int], object] = lambda _done, _total: None
) -> Matrix:
    """The same on hosts that stand already."""
    began = time.monotonic()
    serving = Serving(stage.server, plan.command, plan.ports, trace=plan.trace)
    test = _Test(stage, plan, serving, Matrix(list(plan.command)))
    with contextlib.closing(test.listener):
        test.run(progress)
    test.matrix.seconds = time.monotonic() - began
    return test.matrix


class _Test:
    def __init__(self, stage: Stage, plan: Plan, serving: Serving, matrix: Matrix) -> None:
        self.stage, self.plan, self.serving, self.matrix = stage, plan, serving, matrix
        self.listener = Listener(stage.client)
        self.deadline = 0.0
        self.deaths = 0
        self.answered = False
        self.stayed_out = False
        self.slowest = 0.0
        self.patience = NOT_READY

    @property
    def is_for_one(self) -> bool:
        """Each request is for a server of its own."""
        return self.matrix.locks or self.deaths > 0 or bool(self.plan.typed)

    def run(self, progress: Callable[[int, int], object]) -> None:
        if self.plan.client and self.plan.ports:
            for port in self.plan.ports:
                self.serving.wait_for_socket(port)
            ports = list(self.plan.ports)
        else:
            ports = self.serving.wait_for_ports()
            if self.serving.left_out:
                self.note(f"it has {len(self.serving.left_out)} more ports, which --port can name")
        self.deadline = time.monotonic() + LONGEST
        self.matrix.process = in_one_line(self.serving.process(ports[0]) or Path(self.plan.command[0]).name)
        total = len(ports) * len(PLACES) * len(self.plan.kinds)
        tried: dict[int, list[_Try]] = {}
        for number, port in enumerate(ports):
            done = number * total // len(ports)
            tried[port] = [
                _Try(place, kind, Endpoint(place.address, port), self.plan.payload(port))
                for place in PLACES
                for kind in self.plan.kinds
            ]
            self.ask_all(port, tried[port], partial(_told, progress, done, total))
        self.serving.stop()
        self.matrix.ports = [
            Port(
                port,
                OF_CLIENT if self.plan.client else tries[0].payload.protocol.name,
                [_trial(one, self.serving.ways) for one in tries],
                self.serving.first(port),
            )
            for port, tries in tried.items()
        ]
        self.explain_silence()

    def explain_silence(self) -> None:
        matrix = self.matrix
        if matrix.verdict != "no answer":
            return
        outcomes = {trial.outcome for port in matrix.ports for trial in port.trials}
        if outcomes == {"absent"}:
            waits = sorted({str(local) for port in matrix.ports for local in self.serving.first(port.number)})
            self.note(
                f"it waits on {', '.join(waits[:8]) or 'none of them'} only, which no other host can ask"
            )
        elif not self.plan.client and not self.plan.typed and "silent" in outcomes:
            asked = [self.plan.payload(port.number).protocol for port in matrix.ports]
            reasons = "; ".join(dict.fromkeys(one.quiet for one in asked if one.quiet)) or (
                "maybe it takes another one (--as, --payload, --client), or answers what is typed (--type)"
            )
            self.note(f"it got requests and never answered: {reasons}")

    def ask_all(self, port: int, tries: list[_Try], progress: Callable[[int], object]) -> None:
        # The address that routes prefer comes last: some servers do not know which was asked only at first.
        for number, one in enumerate(reversed(tries)):
            if time.monotonic() > self.deadline:
                self.note(f"after {LONGEST:g} s there was no time for more requests")
                break
            try:
                self.have_a_server(port)
                self.ask(one)
                if self.came_too_late(one, port):
                    self.have_a_server(port)
                    self.ask(one)
            except LabError as error:
                self.note(str(error))
                break
            progress(number + 1)
        self.wait_for_late(tries)

    def came_too_late(self, one: _Try, port: int) -> bool:
        """The request met a server that was on its way out, as those for one client are."""
        request, serving = one.request, self.serving
        if one.answers or (request and request.answers) or serving.is_back(port):
            return False
        if not (request and request.refused) and not serving.ended():
            return False
        if request:
            self.listener.forget(request)
        return True

    def have_a_server(self, port: int) -> None:
        """Start it anew where it has ended, or has no socket for strangers any more."""
        serving = self.serving
        serving.program.drain()
        if serving.is_back(port):
            return
        if not self.matrix.locks and serving.come_back(port):
            return
        if words := serving.ended():
            well = words.startswith("exit status 0")
            self.note(f"it ends after a request, {'' if well else f'with {words}, '}and was started anew")
            self.deaths += 1
            if self.deaths >= MOST_DEATHS and not self.answered:
                raise LabError(f"it ended {self.deaths} times and never answered; no more was asked")
        else:
            self.matrix.locks = True
        serving.start_again(port)

    def ask(self, one: _Try) -> None:
        one.listens = takes(self.serving.sockets(), one.asked)
        if one.kind == "client":
            self.run_client(one)
            return
        try:
            one.request = self.listener.ask(
                one.asked, one.payload.data, connected=one.kind == "connected", scope=self.stage.scope
            )
        except OSError as error:
            one.note = f"not sent: {error.strerror}"
            return
        if self.plan.typed:
            self.wait(one, REFUSED)  # what is typed at nobody's request would wait
            deadline = time.monotonic() + self.plan.timeout
            while time.monotonic() < deadline and not self.is_over(one):
                with contextlib.suppress(TimedOut):  # it does not read
                    self.serving.program.type(self.plan.typed, timeout=TYPE)
                self.wait(one, TYPE)
        else:
            self.wait(one, self.pace())
            while not self.is_over(one) and self.is_not_ready():
                self.wait(one, PACE)

    def pace(self) -> float:
        """How long to wait for an answer before the next request.

        As long as it may take, until one stayed out; then somewhat longer than others took.
        """
        if self.is_for_one or not self.stayed_out:
            return self.plan.timeout
        return min(self.plan.timeout, max(PACE, 3 * self.slowest))

    def wait_for_late(self, tries: list[_Try]) -> None:
        """Until nobody has been answered for as long as an answer may take.

        Nothing is sent again: no datagram is lost on the way, and a slow server would only get slower.
        """

        def silent() -> int:
            return sum(one.request is not None and not self.is_over(one) for one in tries)

        until = time.monotonic() + (0 if self.is_for_one else self.plan.timeout)
        before = silent()
        while before and (left := min(until, self.deadline) - time.monotonic()) > 0:
            self.listener.wait(lambda: not silent(), min(left, PACE), [self.serving.program])
            if silent() < before or self.is_not_ready():
                until = time.monotonic() + self.plan.timeout
            before = silent()
        for one in tries:
            _settle(one)
            if one.request:
                self.listener.forget(one.request)

    def is_not_ready(self) -> bool:
        """Requests wait in the server's sockets, and there is patience left."""
        self.patience -= PACE
        return self.patience > 0 and any(one.queued for one in self.serving.sockets())

    @staticmethod
    def is_over(one: _Try) -> bool:
        return one.request is not None and one.request.is_over(any_port=one.payload.protocol.other_port)

    def wait(self, one: _Try, seconds: float) -> None:
        """For what becomes of its request."""
        assert one.request is not None  # noqa: S101 - it was sent
        self.listener.wait(lambda: self.is_over(one), seconds, [self.serving.program])
        if one.request.answers:
            self.answered = True
            self.slowest = max(self.slowest, one.request.answers[0][2] - one.request.sent)
        self.stayed_out |= not self.is_over(one)

    def run_client(self, one: _Try) -> None:
        """A program asks; what arrives at its host meanwhile are its answers.

        It alone knows from which port they should come.
        """
        address = str(one.asked.address)
        if one.asked.address.is_link_local:
            address += "%eth0"
        host = f"[{address}]" if ":" in address else address
        words = [
            word.replace("{address}", address).replace("{host}", host).replace("{port}", str(one.asked.port))
            for word in self.plan.client
        ]
        self.listener.arrived.clear()
        client = self.stage.client.run(*words)
        patience = max(CLIENT_PATIENCE, self.plan.timeout)
        client.close_input()
        running = [client, self.serving.program]

        def answers() -> list[tuple[Endpoint, int, bytes]]:
            return [each for each in self.listener.arrived if each[0].address in OWN]

        def as_asked(answer: tuple[Endpoint, int, bytes]) -> bool:
            return answer[0].address == one.asked.address

        def is_known() -> bool:
            return client.status is not None or not all(map(as_asked, answers()))

        self.listener.wait(is_known, patience, running)
        over = self.listener.wait(lambda: client.status is not None, self.plan.timeout, running)
        if not over:
            self.end(client)
            one.note = "the client waited for more"
        elif client.status:
            one.note = in_one_line(client.last_words())[:LONGEST_WORDS]
        arrived = answers()
        arrived.sort(key=as_asked)  # what came from elsewhere decides
        one.answers = [(source, payload, 0.0) for source, _, payload in arrived]
        one.client_ports = [port for _, port, _ in arrived]
        self.answered |= bool(arrived)
        one.outcome = judge(
            one.asked,
            [source for source, _, _ in one.answers],
            refused="refused" in one.note.lower() or one.listens is False,
            listens=one.listens,
            any_port=True,
            status=client.status if over else 1,
        )
        client.close()

    @staticmethod
    def end(program: Program) -> None:
        try:
            program.stop()
        except TimedOut:
            program.stop(signal.SIGKILL)

    def note(self, sentence: str) -> None:
        sentence = in_one_line(sentence)
        if sentence not in self.matrix.notes:
            self.matrix.notes.append(sentence)


def _told(progress: Callable[[int, int], object], done: int, total: int, more: int) -> None:
    progress(done + more, total)


def _settle(one: _Try) -> None:
    """What the request's socket has seen in the end."""
    request = one.request
    if request is None:
        return
    one.answers, one.client_ports = request.answers, [request.port]
    one.outcome = judge(
        one.asked,
        [source for source, _, _ in one.answers],
        refused=request.refused,
        listens=one.listens,
        any_port=one.payload.protocol.other_port,
    )


def _trial(one: _Try, hows: Mapping[int, How]) -> Trial:
    source, data, at = one.answers[0] if one.answers else (None, b"", 0.0)
    name = (one.request and one.payload.name(data)) or f"{len(data)} bytes"
    return Trial(
        one.place,
        one.kind,
        one.asked,
        one.outcome,
        actual=source,
        answer=in_one_line(name) if source else "",
        seconds=at - one.request.sent if one.request and source else None,
        note=one.note,
        how=next((hows[port] for port in one.client_ports if port in hows), None),
    )
