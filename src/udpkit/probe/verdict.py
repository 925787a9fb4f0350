"""Verdicts, and the sentences that say how they are known."""

from __future__ import annotations

import errno
import os
from functools import lru_cache

from udpkit._native import Datagram
from udpkit.facts import Address, Endpoint
from udpkit.kernel import icmp
from udpkit.probe.payload import Payload
from udpkit.probe.result import Result, State, same_host
from udpkit.probe.sweep import Port, Sweep
from udpkit.sockets.errors import ErrorReport

NOBODY = {icmp.name(4, 3, 1), icmp.name(6, 1, 3)}
"""What this host's kernel says after ARP or neighbour discovery: arp_error_report(), ndisc_error_report()."""
HERE = {os.strerror(errno.EINVAL).lower(): "no route (blackhole)"}
"""What an error of this host means, as long as the port is not 0 (ip_route_output_key_hash_rcu())."""


def replied_result(
    host: str, target: Endpoint, port: Port, datagram: Datagram, payload: Payload, now: float
) -> Result:
    """The target, or somebody in its place, has answered."""
    answer = payload.name(datagram.data)
    length = len(datagram.data)
    what = answer or (f"{length} byte" if length == 1 else f"{length} bytes")
    by_design = payload.protocol.other_port and answer and datagram.peer.address == target.address
    right = datagram.peer == target or by_design
    if right:
        evidence = [f"reply from {datagram.peer}: {what}"]
        if datagram.peer != target:
            evidence.append(f"{payload.protocol.title} answers from another port by design")
    else:
        evidence = [
            f"reply from {datagram.peer}, not from {target}: {what}",
            "a connected client's kernel refuses that reply",
        ]
    return Result(
        host,
        target,
        State.OPEN if right else State.WRONG_SOURCE,
        evidence,
        sent=port.sent,
        reply_from=datagram.peer,
        answer=answer,
        rtt=now - port.last_sent,
    )


def refused_result(host: str, report: ErrorReport, state: State, port: Port, now: float) -> Result:
    """An ICMP error came back, or this host did not send."""
    assert report.peer is not None  # noqa: S101 - the caller found the target by it
    itself = same_host(report.offender, report.peer.address)
    # Who gives up on a host does so seconds after the probe, and for several at once.
    rtt = None if report.origin == "local" or state is State.UNREACHABLE else now - port.last_sent
    by = None if itself else report.offender
    evidence = refusal(report.origin, report.kind, by, is_own(report), is_nobody(report))
    return Result(host, report.peer, state, evidence, sent=port.sent, rtt=rtt, icmp=report)


def is_own(report: ErrorReport) -> bool:
    """Whether an address of this host sent the ICMP error, and not as the target of the probe."""
    if report.offender is None or report.peer is None:
        return False
    return report.offender == report.local and not same_host(report.offender, report.peer.address)


def is_nobody(report: ErrorReport) -> bool:
    """Whether this host's kernel says that nobody on the link has the address (arp_error_report(), ndisc)."""
    return report.kind in NOBODY and is_own(report)


@lru_cache(64)
def refusal(origin: str, kind: str, by: Address | None, own: bool, nobody: bool) -> tuple[str]:
    """In words. by: who says so, None if the target itself; own: whether that is this host."""
    if origin == "local":
        return (f"this host did not send it: {HERE.get(kind, kind)}",)
    if nobody:
        return (f"{kind}: nobody on the link has that address, says this host's own kernel",)
    if own:
        return (f"{kind}, said by this host itself: one of its rules rejects it",)
    return (f"{'ICMP' if origin == 'icmp' else 'ICMPv6'} {kind}, said by {by or 'the host itself'}",)


def silent_result(
    host: str,
    target: Endpoint,
    port: Port,
    payload: Payload,
    sweep: Sweep,
    like: Result | None,
    *,
    nobody: bool,
) -> Result:
    """No answer, and no error.

    like: what all other ports were told, if that is one and the same. nobody: the link was asked in vain.
    """
    if nobody:
        told = "host unreachable: nobody on the link has that address, says this host's neighbour table"
        return Result(host, target, State.UNREACHABLE, [told], sent=port.sent)
    if like is not None and like.icmp is not None:
        told = f"{like.evidence[0]}, as for the other ports probed; nothing else was heard of this host"
        return Result(host, target, like.state, [told], sent=port.sent, icmp=like.icmp)
    if port.proven:
        evidence = [
            "no answer; a port of this host that is known to be closed was refused meanwhile: "
            "ICMP gets through, so the port is open but quiet, or filtered"
        ]
    elif sweep.heard:
        evidence = [
            "no answer, and no port that is known to be closed was refused meanwhile: "
            "the port is open but quiet, closed or filtered"
        ]
    else:
        evidence = [
            "no answer, no ICMP error for any port: "
            "the host drops UDP, suppresses ICMP, or is down; or the port is open but quiet"
        ]
    if payload.protocol.quiet:
        evidence.append(payload.protocol.quiet)
    return Result(host, target, State.SILENT, evidence, sent=port.sent, icmp_proven=port.proven)
