"""A result made by hand, in which every text may be hostile."""

from __future__ import annotations

from ipaddress import ip_address

from udpkit.diagnosis import Finding, Offer
from udpkit.facts import Case, Datagram, Endpoint, IcmpError, Reference, SocketEntry, SocketTable, Source
from udpkit.lab.experiment import Command, Expect, Experiment, HostPlan, Interface, ProgramPlan
from udpkit.lab.play import Look, Played, Taken
from udpkit.lab.prove import Proof, Trial
from udpkit.lab.run import Result

MARCH = 1_710_000_000_123_456_789  # 2024-03-09T16:00:00.123456789Z


def result(text: str = "text", client: str = "172.17.0.3", server: str = "172.16.13.13") -> Result:
    """A client asked and was refused; `text` stands everywhere where something from outside does."""
    asker, asked = Endpoint(ip_address(client), 40000), Endpoint(ip_address(server), 5300)
    other = Endpoint(ip_address("fd00:17::1" if ":" in server else "172.17.0.1"), 5300)
    finding = Finding(
        code="reply-from-other-address",
        severity="error",
        summary=f"summary {text}",
        client=asker,
        server=asked,
        actual=other,
        process=text,
        count=1,
        first=MARCH,
        last=None,
        why=[f"why {text}"],
        evidence=[Reference(0, packet=1), Reference(1, line=2)],
        fixes=[Offer("bind", f"command {text}", f"tradeoff {text}", verified=True)],
    )
    port_unreachable = (1, 4) if ":" in server else (3, 3)
    case = Case(
        [
            Source(f"server.{text}", "pcap", packets=2, datagrams=1, icmp_errors=1),
            Source("sockets", "sockets"),
        ]
    )
    messages = [
        Datagram(Reference(0, packet=1), MARCH, asker, asked, 4, text.encode()),
        IcmpError(
            Reference(0, packet=2), MARCH, asked.address, asker.address, *port_unreachable, asker, asked
        ),
    ]
    sockets = SocketTable([SocketEntry(Reference(1, line=2), asked, asker, inode=1, process=text)])
    experiment = Experiment(
        title=f"title {text}",
        question=f"question {text}",
        hosts={text: HostPlan(interfaces={text: Interface(addresses=[text])}, routes=[text])},
        programs={text: ProgramPlan(on=text, run=text)},
        capture=[],
        steps=[],
        expect=Expect(sequence=[], findings=[]),
        name=text,
    )
    return Result(
        experiment,
        "fail",
        f"reason {text}",
        1.23456,
        Played(
            case,
            messages,
            captures={},
            looks=[Look(text, f"after “{text}”", sockets)],
            said=[],
            taken=[Taken(Command(text, text, column=text), [text])],
            calls={text: [text]},
            unexpected=[],
            ended={},
            notes=[text],
        ),
        [finding],
        [
            Proof(
                "bind",
                f"bind {text}",
                {
                    "connected": Trial("works", f"seen {text}"),
                    "unconnected": Trial(None, ""),
                    "nc": Trial("fails", text),
                },
            )
        ],
    )
