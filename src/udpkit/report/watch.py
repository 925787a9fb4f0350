"""What `udpkit watch` tells: findings as they come, a table of conversations, and how much was seen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from udpkit.diagnosis import Finding
from udpkit.facts import Endpoint, Source
from udpkit.facts.text import in_one_line
from udpkit.report.document import SCHEMA, finding_document, source_document
from udpkit.report.findings import COLOURS

if TYPE_CHECKING:
    from udpkit._native import LiveTally

Row = tuple[Endpoint, Endpoint, int, int, int | None]
"""Client, server, requests, replies, last time."""


def document(finding: Finding, sources: Sequence[Source]) -> dict[str, Any]:
    """One line of `--json`: a document with one finding, and what was read up to it."""
    return {
        "schema": SCHEMA,
        "sources": [source_document(source) for source in sources],
        "findings": [finding_document(finding)],
    }


def line(finding: Finding) -> str:
    """One finding in a line, at this host's local time."""
    when = (finding.last or time.time_ns()) / 1e9
    clock = datetime.fromtimestamp(when).astimezone().strftime("%H:%M:%S.%f")[:-3]
    kind = click.style(f"{finding.severity} {finding.code}", fg=COLOURS[finding.severity], bold=True)
    who = f" ({finding.process})" if finding.process else ""
    return f"{clock}  {kind}: {in_one_line(finding.summary + who)}"


def table(
    rows: Sequence[Row],
    findings: Mapping[tuple[Endpoint, Endpoint], Finding],
    owners: Mapping[Endpoint, str],
    height: int,
) -> Table:
    """Conversations, at most `height` with the head: those with a finding first, then the latest."""
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("client", "server", "process", "requests", "replies", "finding"):
        shown.add_column(name, justify="right" if name in ("requests", "replies") else "left", no_wrap=True)
    ordered = sorted(rows, key=lambda row: (row[0], row[1]) not in findings)
    for client, server, requests, replies, _ in ordered[: max(1, height - 2)]:
        finding = findings.get((client, server))
        process = owners.get(server) or owners.get(client) or ""
        shown.add_row(
            Text(str(client)),
            Text(str(server)),
            Text(in_one_line(process)),
            str(requests),
            str(replies),
            Text(finding.code, f"bold {COLOURS[finding.severity]}") if finding else "",
        )
    return shown


def summary(tally: LiveTally, told: int, seconds: float, *, drops: bool, unjudged: int) -> Iterator[str]:
    """How it went: what was seen, and what was not."""
    datagrams = sum(interface[2] for interface in tally.interfaces)
    errors = sum(interface[3] for interface in tally.interfaces)
    yield (
        f"{tally.packets} packets in {seconds:.1f} s: {datagrams} datagrams, {errors} ICMP errors; "
        f"{told} finding{'' if told == 1 else 's'}"
    )
    yield f"{tally.lost} packets lost: the ring was full" if tally.lost else "no packet lost"
    if drops:
        more = f", {tally.drops_lost} more not told" if tally.drops_lost else ""
        yield f"{tally.drops} datagram{'' if tally.drops == 1 else 's'} dropped by the kernel{more}"
    if tally.renewed:
        yield f"the table of conversations was full {tally.renewed} times and began anew"
    if unjudged:
        yield f"{unjudged} more conversations were remarkable than are judged at a time"
    if tally.write_failure:
        yield f"the capture file ends early: {in_one_line(tally.write_failure)}"
    elif tally.written:
        yield f"{tally.written} packets written"
