"""`udpkit rule`: the manual page of a finding."""

from __future__ import annotations

import difflib
import json

import click
from click.shell_completion import CompletionItem

from udpkit.cli.exits import OK, USAGE, Failure
from udpkit.diagnosis import RULES


def complete_code(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(code) for code in RULES if code.startswith(typed)]


@click.command()
@click.argument("code", required=False, shell_complete=complete_code)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verb(code: str | None, as_json: bool) -> int:
    """Show the manual page of a finding: what it sees, when it stays silent, why it happens.

    Without CODE: all of them, a line each.
    """
    if code is not None and code not in RULES:
        close = difflib.get_close_matches(code, RULES, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else "udpkit rule lists them"
        raise Failure(f"there is no finding called {code}: {hint}", USAGE)
    if as_json:
        chosen = [RULES[code]] if code else list(RULES.values())
        pages = [{"code": rule.code, "manual": rule.manual} for rule in chosen]
        click.echo(json.dumps({"schema": 1, "rules": pages}, indent=2))
    elif code:
        click.echo(f"{code}\n\n{RULES[code].manual.strip()}")
    else:
        width = max(map(len, RULES))
        for rule in RULES.values():
            click.echo(f"{rule.code:<{width}}  {rule.manual.splitlines()[0]}")
    return OK
