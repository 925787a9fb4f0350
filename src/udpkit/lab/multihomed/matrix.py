"""What a server on a host with several addresses answered from which: the verdicts. Pure.

Theory of operation. Every address of the server's host is asked by a client whose socket is connected, and by
one whose socket is not. What arrives at the client's host is seen before its sockets choose among it, so that
an answer is known even where the client does not hear it. The first datagram that comes back decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from udpkit.facts import Endpoint, SocketEntry
from udpkit.kernel.lookup import unmapped
from udpkit.lab.multihomed.stage import Place

Kind = Literal["connected", "unconnected", "client"]
"""Of the client's socket; `client`: a program, which has whatever sockets it likes."""
Outcome = Literal["right", "wrong", "failed", "silent", "refused", "absent", "untried"]
"""right: the answer came from where it was asked. wrong: from elsewhere. failed: the client's program was
answered, and ended with an error. silent: no answer, although the server listens there. refused: ICMP port
unreachable, although it listens there. absent: the server does not listen there. untried: there was no server
any more, or no time."""
Verdict = Literal["wrong", "partly silent", "right", "no answer"]
"""The first that applies to any port. partly silent: all answers are right, but there are none at some
address where the server listens."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

FAULTS: Mapping[Outcome, Verdict] = {
    "wrong": "wrong",
    "failed": "wrong",
    "silent": "partly silent",
    "refused": "partly silent",
}
"""What is a fault of a server that answers others."""


@dataclass(frozen=True, slots=True)
class How:
    """How an answer was sent, as strace(1) saw it: the call, and what chose the source, or its error."""

    call: str
    source: str

    def __str__(self) -> str:
        return f"{self.call}(), {self.source}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One request. `actual` is where the first answer came from; `answer` names it, escaped.

    `seconds` from the request to it. `note` is what a client's program said when it failed, escaped.
    """

    place: Place
    kind: Kind
    asked: Endpoint
    outcome: Outcome
    actual: Endpoint | None = None
    answer: str = ""
    seconds: float | None = None
    note: str = ""
    how: How | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """All requests to one port. `protocol` is whose request was sent; `waits`: on what its sockets waited."""

    number: int
    protocol: str
    trials: Sequence[Trial]
    waits: Collection[Endpoint] = ()

    @property
    def verdict(self) -> Verdict:
        outcomes = {trial.outcome for trial in self.trials}
        if not outcomes & {"right", "wrong", "failed"}:
            return "no answer"
        return _worst(FAULTS.get(outcome, "right") for outcome in outcomes)

    def faults(self) -> list[Trial]:
        """None if there was no answer at all."""
        answered = self.verdict != "no answer"
        return [trial for trial in self.trials if trial.outcome in FAULTS] if answered else []

    def listener(self, asked: Endpoint) -> Endpoint | None:
        """The wildcard that takes what comes to `asked`: that of its family, or the one of a dual stack."""
        wildcards = {one.address.version: one for one in self.waits if one.address.is_unspecified}
        return wildcards.get(asked.address.version, wildcards.get(6))

    def calls(self) -> Counter[How]:
        """In how many ways answers were sent, the most used first."""
        return Counter(trial.how for trial in self.trials if trial.how)

    def one(self, address: str, kind: Kind) -> Trial:
        """Of this address (`192.0.2.9`) and kind of client. Raises KeyError."""
        for trial in self.trials:
            if str(trial.place.address) == address and trial.kind == kind:
                return trial
        raise KeyError(f"{address} was not asked by a client that is {kind}")


@dataclass(slots=True)
class Matrix:
    """How a server fared. `process` is its name as the kernel knows it; `notes` are sentences, escaped."""

    command: Sequence[str]
    ports: Sequence[Port] = ()
    process: str = ""
    locks: bool = False
    """Its socket takes datagrams of its first peer only, so it was started anew for each request."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def verdict(self) -> Verdict:
        """The worst of its ports; those that nothing answered on do not count beside one that did."""
        return _worst(port.verdict for port in self.ports)

    @property
    def is_right(self) -> bool:
        return self.verdict == "right"

    def wrong(self) -> Iterator[tuple[Trial, Endpoint | None]]:
        """The answers that came from elsewhere, and the wildcard on which the server waited."""
        for port in self.ports:
            yield from ((one, port.listener(one.asked)) for one in port.trials if one.outcome == "wrong")


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    return min(verdicts, key=VERDICTS.index, default="no answer")


def judge(
    asked: Endpoint,
    answers: Sequence[Endpoint],
    *,
    refused: bool,
    listens: bool | None,
    any_port: bool = False,
    status: int | None = None,
) -> Outcome:
    """What one request shows.

    answers: where datagrams came from, in order. refused: ICMP port unreachable came back. listens: a socket
    of the server's takes what comes to `asked`; None: nobody knows. any_port: the protocol answers from
    another port by design. status: a client program's exit status; without one, the client is a socket.
    """
    if answers:
        first = answers[0]
        same = first.address == asked.address if any_port else first == asked
        if not same:
            return "wrong"
        return "failed" if status else "right"
    if refused and not listens:
        return "absent"
    return "refused" if refused else "silent"


def takes(entries: Sequence[SocketEntry], asked: Endpoint) -> bool | None:
    """Whether an unconnected socket among these takes what comes to `asked`; None where nobody knows.

    A wildcard IPv6 socket need not take IPv4 (IPV6_V6ONLY), and who has no socket on the port may open one.
    """
    waiting = {
        unmapped(one.local.address) for one in entries if not one.peer and one.local.port == asked.port
    }
    wildcards = {one.version for one in waiting if one.is_unspecified}
    if asked.address in waiting or asked.address.version in wildcards:
        return True
    return None if 6 in wildcards or not waiting else False
