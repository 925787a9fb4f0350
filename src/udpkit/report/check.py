"""What `udpkit check` saw: sockets, findings and counters, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from udpkit.diagnosis import Finding
from udpkit.evidence.counters import meaning
from udpkit.evidence.host import Look
from udpkit.facts import SocketEntry, Source
from udpkit.facts.text import in_one_line
from udpkit.kernel.lookup import plain
from udpkit.report.document import SCHEMA, finding_document, source_document

COLUMNS = ("local", "peer", "process", "container", "queue", "drops", "options")
FLAGS = {
    "IP_PKTINFO": "pktinfo",
    "IPV6_RECVPKTINFO": "pktinfo6",
    "IP_RECVORIGDSTADDR": "origdstaddr",
    "IPV6_RECVORIGDSTADDR": "origdstaddr6",
    "IP_RECVERR": "recverr",
    "IPV6_RECVERR": "recverr6",
    "IPV6_V6ONLY": "v6only",
    "SO_REUSEPORT": "reuseport",
    "SO_MARK": "mark",
}
"""Options that are set or not, as the table calls them."""


def check_document(
    sources: Sequence[Source], looks: Sequence[Look], findings: Sequence[Finding]
) -> dict[str, Any]:
    """The JSON document: that of `read`, and for each namespace its sockets, counters and what is missing."""
    return {
        "schema": SCHEMA,
        "sources": [source_document(source) for source in sources],
        "findings": [finding_document(finding) for finding in findings],
        "hosts": [
            {
                "name": look.namespace.name,
                "sockets": [_socket_document(entry) for entry in look.table.entries],
                "counters": dict(look.state.counters),
                "missing": list(look.missing),
            }
            for look in looks
        ],
    }


def _socket_document(entry: SocketEntry) -> dict[str, Any]:
    return {
        "local": str(plain(entry.local)),
        "peer": str(plain(entry.peer)) if entry.peer else None,
        "process": entry.process,
        "pid": entry.pid,
        "container": entry.container or None,
        "interface": entry.device or None,
        "options": dict(entry.options) or None,
        "queue": entry.queued,
        "drops": entry.drops,
    }


def show_check(looks: Sequence[Look], findings: Sequence[Finding]) -> None:
    """The sockets of each namespace, the findings of all, and each one's counters."""
    from udpkit.report.console import console
    from udpkit.report.findings import show_diagnosis

    named = len(looks) > 1
    for look in looks:
        _show_sockets(look, named=named)
        if look is not looks[-1]:
            click.echo()
    none = "none in what could be seen" if any(look.missing for look in looks) else "none"
    show_diagnosis(console(), findings, none=none)
    for look in looks:
        _show_counters(look, named=named)


def _show_sockets(look: Look, *, named: bool) -> None:
    """A namespace's sockets as a table; plain text, since there may be ten thousand."""
    if named:
        click.secho(in_one_line(look.namespace.name or "this namespace"), bold=True)
    rows = [_row(entry) for entry in sorted(look.table.entries, key=_order)]
    if not rows:
        click.echo("  no UDP sockets")
        return
    shown = [
        number for number, name in enumerate(COLUMNS) if name != "container" or any(r[number] for r in rows)
    ]
    widths = {number: max(len(row[number]) for row in [COLUMNS, *rows]) for number in shown}
    click.secho(f"  {_line(COLUMNS, widths)}", dim=True)
    click.echo("\n".join(f"  {_line(row, widths)}" for row in rows))


def _line(cells: Sequence[str], widths: dict[int, int]) -> str:
    return "  ".join(f"{cells[number]:<{width}}" for number, width in widths.items()).rstrip()


def _row(entry: SocketEntry) -> tuple[str, ...]:
    device = f"%{entry.device}" if entry.device else ""
    return (
        in_one_line(f"{plain(entry.local)}{device}"),
        in_one_line(str(plain(entry.peer))) if entry.peer else "-",
        in_one_line(f"{entry.process}({entry.pid})") if entry.process else "?",
        in_one_line(entry.container),
        str(entry.queued),
        str(entry.drops),
        _options(entry),
    )


def _order(entry: SocketEntry) -> tuple[int, int, int]:
    return entry.local.port, entry.local.address.version, int(entry.local.address)


def _options(entry: SocketEntry) -> str:
    """Those that are set; a question mark where nothing is known."""
    if not entry.options:
        return "?"
    return ",".join(flag for name, flag in FLAGS.items() if entry.options.get(name)) or "-"


def _show_counters(look: Look, *, named: bool) -> None:
    """Those that are not zero, with their meanings."""
    counters = {name: value for name, value in look.state.counters.items() if value}
    if not counters:
        return
    from rich.table import Table
    from rich.text import Text

    from udpkit.report.console import console

    out = console()
    of = f" of {look.namespace.name or 'this namespace'}" if named else ""
    out.print()
    out.print(Text(in_one_line(f"Error counters{of}, since it began"), "bold cyan"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column()
    for name, value in counters.items():
        grid.add_row(f"  {name}", str(value), meaning(name))
    out.print(grid)
