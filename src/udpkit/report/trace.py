"""A trace: a line a hop, the verdict, the path MTU; and the JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from udpkit.facts.text import in_one_line
from udpkit.probe.path_mtu import PathMtu
from udpkit.probe.result import Result
from udpkit.probe.trace import Hop, Trace
from udpkit.report.probe import COLOURS, broken, icmp_document, milliseconds, result_document
from udpkit.sockets import Endpoint

WIDTHS = {4: 15, 6: 24}
"""Columns of an address, by IP version; a longer one is shown whole."""
INDENT = 16
"""Columns before a sentence."""


def document(trace: Trace) -> dict[str, Any]:
    """What `udpkit probe --trace --json` prints for one address; `result` is null if it was interrupted."""
    return {
        "schema": 1,
        "target": str(trace.target),
        "hops": [hop_document(hop) for hop in trace.hops],
        "result": result_document(trace.result) if trace.result else None,
        "path_mtu": mtu_document(trace.path_mtu) if trace.path_mtu else None,
    }


def hop_document(hop: Hop) -> dict[str, Any]:
    """One hop."""
    said = hop.icmp
    return {
        "hop": hop.number,
        "address": str(hop.address) if hop.address else None,
        "rtt_ms": milliseconds(hop.rtt),
        "icmp": icmp_document(said.kind, said.origin, said.type, said.code, said.offender) if said else None,
    }


def mtu_document(mtu: PathMtu) -> dict[str, Any]:
    """The path MTU, and how it is known."""
    return {
        "bytes": mtu.bytes,
        "by": str(mtu.by) if mtu.by else None,
        "proven": mtu.proven,
        "black_hole": mtu.black_hole,
        "evidence": mtu.evidence,
    }


def title(name: str, target: Endpoint) -> str:
    """The target, and what it was called."""
    called = "" if name == str(target.address) else f" ({in_one_line(name)})"
    return click.style(f"{target}{called}", bold=True)


def lines(known: Hop | Result | PathMtu, version: int, columns: int | None = None) -> Iterator[str]:
    """What became known. version: of IP; columns: of the terminal, where what is longer is broken."""
    if isinstance(known, Hop):
        what = known.icmp.kind if known.icmp else f"reply: {known.answer}" if known.answer else "no answer"
        address = str(known.address or ("this host" if known.icmp else "*"))
        rtt = "" if known.rtt is None else f"{milliseconds(known.rtt):.3f} ms"
        yield f"  {known.number:2}  {address:<{WIDTHS[version]}}  {rtt:>11}  {in_one_line(what)}"
        return
    if isinstance(known, PathMtu):
        name, sentences = f"{'path MTU':12}", [f"{known.bytes} bytes: {known.evidence}"]
    else:
        name = click.style(f"{known.state.value:12}", fg=COLOURS[known.state])
        sentences = [*known.evidence]
    for sentence in sentences:
        for row in broken(in_one_line(sentence), columns and columns - INDENT):
            yield f"  {name}  {row}"
            name = " " * 12
