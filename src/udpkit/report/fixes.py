"""The fixes of a host, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from udpkit._native import LoadedFix
from udpkit.facts.text import in_one_line
from udpkit.report.document import SCHEMA

COUNTS = ("corrected", "already_right", "unknown", "address_gone", "overflow")
"""As the keys of the document; on a terminal without the underscore."""
Listed = tuple[LoadedFix, Path | None, int | None]
"""With its cgroup's folder, and the process that holds it; None for what is not seen from here."""


def document(fixes: Sequence[Listed]) -> dict[str, Any]:
    """The JSON document of `udpkit fix list`."""
    return {"schema": SCHEMA, "fixes": [_fix(*one) for one in fixes]}


def ended(cgroup: Path | None) -> dict[str, Any]:
    """The JSON document of `udpkit fix detach`; no cgroup if only leftovers were removed."""
    return {"schema": SCHEMA, "detached": str(cgroup) if cgroup else None}


def _fix(one: LoadedFix, cgroup: Path | None, holder: int | None) -> dict[str, Any]:
    corrected, by_program, unknown, gone, learned = one.counts
    since = datetime.fromtimestamp(one.since, timezone.utc).isoformat() if one.since else None
    return {
        "cgroup": str(cgroup) if cgroup else None,
        "since": since,
        "process": holder,
        "flows": one.flows,
        "corrected": corrected,
        "already_right": by_program,
        "unknown": unknown,
        "address_gone": gone,
        "overflow": max(0, learned - one.flows),
    }


def show(fixes: Sequence[Listed]) -> None:
    """Each with its counters."""
    if not fixes:
        click.echo("no fix is attached")
    for one in document(fixes)["fixes"]:
        since = datetime.fromisoformat(one["since"]).astimezone() if one["since"] else None
        when = f"  since {since:%Y-%m-%d %H:%M:%S}" if since else ""
        who = f"process {one['process']}" if one["process"] else "a process that is not seen from here"
        click.secho(in_one_line(one["cgroup"] or "a cgroup that has gone"), bold=True, nl=False)
        click.echo(f"{when}  by {who}")
        counts = ", ".join(f"{one[name]} {name.replace('_', ' ')}" for name in COUNTS)
        click.echo(f"  answers: {counts}; room for {one['flows']} peers")
