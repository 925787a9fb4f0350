"""The exchanges over UDP, on sockets that are never connected.

connect(2) would hide what matters: a connected client cannot see an answer from another address, and on a
wildcard-bound listener it freezes the source that the route prefers. So who may speak is decided here, by the
sender of each datagram, and who refused is read from the error queue (IP_RECVERR, ip(7)).
"""

from __future__ import annotations

import errno
import select
import socket
import time
from abc import abstractmethod
from collections.abc import Iterator

from udpkit.facts import Endpoint
from udpkit.netcat.addresses import find, is_group, peer
from udpkit.netcat.exchange import Deadline, Exchange
from udpkit.netcat.plan import CHUNK, OK, REFUSED, UNREACHABLE, Plan, Talk, Trouble, cannot_bind
from udpkit.netcat.stdio import write_out
from udpkit.sockets import Datagram, ErrorReport, Socket

PACE = 0.001
"""Seconds after each full chunk: a receive buffer of Linux's default size holds a dozen of them."""

LAST_ANSWER = 1.0
"""Seconds that an answer may take after the end of stdin, if what was sent before was refused."""

RECEIVE_BUFFER = 4 << 20
"""Bytes to ask the kernel for, for slow readers of stdout; only root gets more than net.core.rmem_max."""

NEWS = {
    errno.ECONNREFUSED: ("refused", REFUSED),
    errno.EMSGSIZE: ("too-big", OK),  # the kernel has learned the path's MTU: the next one gets through
    errno.ENOBUFS: ("queue-full", OK),  # and is sent again
}
"""What an error report is called, and the exit code if it is the last that was heard."""


class Conversation(Exchange):
    """stdin to the partner, the partner's datagrams to stdout."""

    partner: Endpoint | None

    def __init__(self, sock: Socket, plan: Plan, talk: Talk) -> None:
        super().__init__(sock, plan, talk)
        self.sock = sock

    @abstractmethod
    def admits(self, datagram: Datagram) -> bool:
        """Whether it is from somebody who may speak."""

    @abstractmethod
    def put(self, data: bytes) -> None:
        """Give the kernel one datagram for the partner; the socket's `errors` say what came of it."""

    @abstractmethod
    def lost(self, report: ErrorReport, code: int) -> None:
        """A datagram of ours met an error, which has been told."""

    def result(self) -> int:
        self.hear()
        return OK

    def events(self) -> int:
        return select.POLLIN

    def wants_stdin(self) -> bool:
        return self.partner is not None and not self.stdin.ended

    def may_tire(self) -> bool:
        return self.partner is not None

    def act(self, ready: bool, typed: bool) -> bool:
        heard = ready and self.receive()
        if typed and (data := self.stdin.take()):
            self.send(data)
            return True
        return heard

    def receive(self) -> bool:
        """Take what there is; whether the partner said something."""
        self.sock.timeout = 0
        heard = [datagram for datagram in self.sock.recv_many() if self.admits(datagram)]
        self.hear()
        for datagram in heard:
            self.talk("heard", f"{len(datagram.data)} bytes from {datagram.peer}", verbose=True)
            if self.plan.stdout:
                write_out(datagram.data)
        return bool(heard)

    def send(self, data: bytes) -> None:
        """One datagram. Waits for room in the send buffer, and for a full queue of the interface."""
        self.sock.timeout = None
        self.put(data)
        while errno.ENOBUFS in self.hear():
            time.sleep(PACE)
            self.put(data)
        if len(data) == CHUNK:
            time.sleep(PACE)

    def hear(self) -> set[int]:
        """Tell of error reports. Returns their errnos."""
        reports = self.sock.errors()
        for report in reports:
            event, code = NEWS.get(report.errno, ("unreachable", UNREACHABLE))
            self.talk(
                event,
                f"{event.replace('-', ' ')}: {report}",
                verbose=report.errno == errno.ENOBUFS,
                peer=report.peer,
                said_by=report.offender,
                kind=report.kind,
            )
            self.lost(report, code)
        return {report.errno for report in reports if report.origin == "local"}


class Client(Conversation):
    """Asks one endpoint. What answers from elsewhere is told, not taken, unless that is wanted."""

    partner: Endpoint

    def __init__(self, sock: Socket, plan: Plan, talk: Talk, partner: Endpoint, *, anybody: bool) -> None:
        super().__init__(sock, plan, talk)
        self.partner = partner
        self.anybody = anybody
        self.code = OK
        """What the latest error says; an answer makes it good."""
        self.unheard = False
        """Whether something was sent since the latest error."""
        self.answered = self.contradicted = False
        """Whether something came from the partner, from somewhere else."""

    def admits(self, datagram: Datagram) -> bool:
        if datagram.peer == self.partner or self.anybody:
            self.code, self.answered = OK, True
            return True
        self.contradicted = True
        self.talk(
            "wrong-source",
            f"{len(datagram.data)} bytes came from {datagram.peer}, but {self.partner} was asked: "
            "not taken, --any-source takes them",
            source=datagram.peer,
            asked=self.partner,
        )
        return False

    def put(self, data: bytes) -> None:
        self.sock.send_many([(data, self.partner)])
        self.unheard = True

    def lost(self, report: ErrorReport, code: int) -> None:  # noqa: ARG002
        if code:
            self.code = code
            self.unheard = False

    def deadlines(self) -> Iterator[Deadline]:
        yield from super().deadlines()
        if self.code:  # nobody is there to answer
            yield self.ended, LAST_ANSWER if self.unheard else 0.0

    def result(self) -> int:
        super().result()
        return self.code or (REFUSED if self.contradicted and not self.answered else OK)


class Listener(Conversation):
    """Serves the first peer or, with `keep`, every peer: stdin goes to the latest.

    A first peer that refuses our answer has ended: its place is free again.
    """

    partner: Endpoint | None = None
    request: Datagram

    def admits(self, datagram: Datagram) -> bool:
        if self.partner is None or (self.plan.keep and datagram.peer != self.partner):
            self.partner = datagram.peer
            self.talk(
                "peer",
                f"{datagram.peer} asks {datagram.destination}",
                verbose=True,
                peer=datagram.peer,
                asked=datagram.destination,
            )
        elif datagram.peer != self.partner:
            self.talk(
                "other-peer",
                f"{len(datagram.data)} bytes from {datagram.peer} dropped: {self.partner} was first, "
                "-k serves everybody",
                verbose=True,
                peer=datagram.peer,
                first=self.partner,
            )
            return False
        self.request = datagram
        return True

    def put(self, data: bytes) -> None:
        self.sock.reply_many([(self.request, data)])

    def lost(self, report: ErrorReport, code: int) -> None:
        if code == REFUSED and report.peer == self.partner:
            self.partner = None


def ask(plan: Plan, talk: Talk) -> int:
    """`nc -u HOST PORT`."""
    assert plan.host is not None  # noqa: S101 - the command line has seen to it
    partner = peer(find(plan.host, plan.ports[0], plan)[0])
    group = is_group(partner)
    if group and not (plan.broadcast or partner.address.is_multicast):
        raise Trouble(f"{partner.address} is a broadcast address: -b allows to send there")
    ipv6 = partner.address.version == 6
    source = "::" if ipv6 else "0.0.0.0"  # noqa: S104 - the route chooses
    if plan.source:
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        source = str(find(plan.source, 0, plan, family)[0][1][0])
    with open_socket(plan, source, plan.source_port) as sock:
        talk("asking", f"{sock.local} asks {partner}", verbose=True, local=sock.local, peer=partner)
        return Client(sock, plan, talk, partner, anybody=group or plan.any_source).run()


def listen(plan: Plan, talk: Talk) -> int:
    """`nc -ul PORT`."""
    anywhere = {0: "", socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}[plan.family]  # noqa: S104 - asked for
    address = str(find(plan.host, 0, plan)[0][1][0]) if plan.host else anywhere
    with open_socket(plan, address, plan.ports[0]) as sock:
        talk("listening", f"listening on UDP {sock.local}", verbose=True, local=sock.local)
        return Listener(sock, plan, talk).run()


def open_socket(plan: Plan, address: str, port: int) -> Socket:
    try:
        return Socket(
            address,
            port,
            v6only=bool(plan.family),
            broadcast=plan.broadcast,
            receive_buffer=RECEIVE_BUFFER,
            batch=16,
        )
    except OSError as error:
        raise cannot_bind(error, address, port, udp=True) from None
