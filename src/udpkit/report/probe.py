"""The verdicts of a probe: lines, and JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import click

from udpkit.facts import Address
from udpkit.facts.text import in_one_line
from udpkit.probe.result import Result, State

COLOURS = {
    State.OPEN: "green",
    State.WRONG_SOURCE: "red",
    State.CLOSED: "red",
    State.SILENT: "yellow",
    State.PROHIBITED: "magenta",
    State.UNREACHABLE: "magenta",
}
RANGES = 12
"""So many ranges of ports are shown on one line."""


def result_document(result: Result) -> dict[str, Any]:
    """One verdict."""
    report = result.icmp
    return {
        "host": result.host,
        "address": str(result.address),
        "port": result.target.port,
        "state": result.state.value,
        "reply_from": str(result.reply_from) if result.reply_from else None,
        "answer": result.answer,
        "rtt_ms": milliseconds(result.rtt),
        "icmp": icmp_document(report.kind, report.origin, report.type, report.code, report.offender)
        if report
        else None,
        "icmp_proven": result.icmp_proven,
        "sent": result.sent,
        "evidence": result.evidence,
    }


@lru_cache(64)
def icmp_document(
    kind: str, origin: str, icmp_type: int | None, code: int | None, offender: Address | None
) -> dict[str, Any]:
    """An ICMP error, or this host's own."""
    return {
        "kind": kind,
        "origin": origin,
        "type": icmp_type,
        "code": code,
        "from": str(offender) if offender else None,
    }


def milliseconds(seconds: float | None) -> float | None:
    """To the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)


def lines(results: Sequence[Result], columns: int | None = None) -> Iterator[str]:
    """A verdict a line, ports with the same verdict for the same reason together.

    columns: of the terminal, where what is longer is broken.
    """
    for (name, address), of_host in groupby(results, key=lambda result: (result.host, result.address)):
        called = "" if name == str(address) else f" ({in_one_line(name)})"
        yield click.style(f"{address}{called}", bold=True)
        groups: dict[tuple[object, ...], list[Result]] = {}
        for result in of_host:
            alone = result.target.port if result.state in (State.OPEN, State.WRONG_SOURCE) else None
            groups.setdefault((result.state, alone, *result.evidence), []).append(result)
        shown = [(ranges([one.target.port for one in group]), group) for group in groups.values()]
        width = min(max(len(ports) for ports, _ in shown), 24)
        for ports, group in shown:
            first = group[0]
            state = click.style(f"{first.state.value:12}", fg=COLOURS[first.state])
            many = f"{len(group):,} ports: " if len(group) > 1 else ""
            rtt = f"{milliseconds(first.rtt):g} ms: " if first.rtt is not None and len(group) == 1 else ""
            sentences = map(in_one_line, first.evidence)
            indent = width + 18
            told = [row for one in sentences for row in broken(one, columns and columns - indent)]
            yield f"  {ports:<{width}}  {state}  {many}{rtt}{told[0]}"
            yield from (" " * indent + row for row in told[1:])


def broken(sentence: str, width: int | None) -> list[str]:
    """The sentence in rows of that width."""
    return textwrap.wrap(sentence, max(width, 30)) if width else [sentence]


def ranges(ports: Sequence[int]) -> str:
    """`53,6990-7002`: ascending, and no more than `RANGES` of them."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in runs[:RANGES]]
    return ",".join(shown) + (",…" if len(runs) > RANGES else "")
