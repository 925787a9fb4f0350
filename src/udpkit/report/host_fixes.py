"""The fixes that were applied to a host, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import click

from udpkit.facts.text import in_one_line
from udpkit.fixes.records import Record, Step
from udpkit.report.document import SCHEMA

Told = Sequence[tuple[Record, Sequence[Step]]]
"""Each with its steps that are not in place."""


def document(told: Told) -> dict[str, Any]:
    """The JSON document of `udpkit fix verify`."""
    return {
        "schema": SCHEMA,
        "fixes": [
            {
                "id": record.fix,
                "about": record.about,
                "since": datetime.fromtimestamp(record.since, timezone.utc).isoformat(),
                "complete": record.complete,
                "in_place": not missing,
                "commands": [step.command for step in record.steps],
                "undo": [step.undo for step in reversed(record.steps)],
                "missing": [step.asks for step in missing],
            }
            for record, missing in told
        ],
    }


def outcome(fix: str, result: str, commands: Sequence[str], changed: Sequence[str]) -> dict[str, Any]:
    """The JSON document of `udpkit fix apply` and `undo`. `changed`: what somebody else has, meanwhile."""
    return {
        "schema": SCHEMA,
        "fix": fix,
        "result": result,
        "commands": list(commands),
        "changed": list(changed),
    }


def show(told: Told) -> None:
    if not told:
        click.echo("no fix is applied here")
    for record, missing in told:
        since = datetime.fromtimestamp(record.since, timezone.utc).astimezone()
        state = "in place" if record.complete else "ended in the middle: undo it"
        click.secho(record.fix, bold=True, nl=False)
        click.echo(f"  {in_one_line(record.about)}  since {since:%Y-%m-%d %H:%M:%S}  ", nl=False)
        click.secho("not in place" if missing else state, fg="red" if missing else "green")
        for step in missing:
            click.echo(f"  {in_one_line(step.asks)}: not what it should be")
