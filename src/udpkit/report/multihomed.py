"""How a server fared on a host with several addresses: a table, and JSON."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import click

from udpkit.facts.text import in_one_line
from udpkit.fixes.choosing import Advice
from udpkit.lab.multihomed import Kind, Matrix, Outcome, Port, Trial, Verdict
from udpkit.report.document import SCHEMA

COLOURS: dict[Outcome | Verdict, str] = {
    "right": "green",
    "wrong": "red",
    "failed": "red",
    "silent": "yellow",
    "refused": "red",
    "partly silent": "yellow",
    "no answer": "yellow",
}
WORDS: dict[Outcome, str] = {"absent": "does not listen there", "untried": "not asked"}
"""Where the outcome's own name does not tell people enough."""
ASKED = {
    "line": "asked with a line of text",
    "payload": "asked with a payload",
    "client": "asked by a program",
}
"""Of what is no protocol."""
WRONG: dict[Kind, str] = {"connected": "not heard", "unconnected": "wrong source", "client": "wrong source"}
"""What the client has of an answer from elsewhere."""


def document(matrix: Matrix, fixes: list[Advice]) -> dict[str, Any]:
    """The JSON document of `udpkit test`."""
    return {
        "schema": SCHEMA,
        "command": list(matrix.command),
        "process": matrix.process,
        "verdict": matrix.verdict,
        "locks": matrix.locks,
        "seconds": round(matrix.seconds, 3),
        "notes": list(matrix.notes),
        "ports": [
            {
                "port": port.number,
                "as": port.protocol,
                "verdict": port.verdict,
                "requests": [_trial(one) for one in port.trials],
            }
            for port in matrix.ports
        ],
        "fixes": [
            {"id": one.id, "command": one.command, "why": one.why, "tradeoff": one.tradeoff} for one in fixes
        ],
    }


def _trial(one: Trial) -> dict[str, Any]:
    return {
        "what": one.place.what,
        "interface": one.place.interface,
        "asked": str(one.asked),
        "client": one.kind,
        "outcome": one.outcome,
        "reply_from": str(one.actual) if one.actual else None,
        "answer": one.answer or None,
        "rtt_ms": round(one.seconds * 1000, 3) if one.seconds is not None else None,
        "call": one.how.call if one.how else None,
        "source": one.how.source if one.how else None,
        "note": one.note or None,
    }


def lines(matrix: Matrix, fixes: list[Advice]) -> Iterator[str]:
    """A table for each port, how its answers were sent, what was noted, what to do."""
    for port in matrix.ports:
        yield from _port(matrix, port)
    for note in matrix.notes:
        yield f"note: {note}"
    if fixes:
        yield ""
        yield click.style("How to make it right", bold=True)
    for one in fixes:
        yield f"  {in_one_line(one.command)}"
        yield click.style(f"    {in_one_line(one.why)}", dim=True)


def _port(matrix: Matrix, port: Port) -> Iterator[str]:
    verdict = click.style(port.verdict, fg=COLOURS[port.verdict], bold=True)
    asked = ASKED.get(port.protocol, f"asked as {port.protocol}")
    yield f"{click.style(matrix.process, bold=True)}, UDP port {port.number}, {asked}: {verdict}"
    rows = [_row(list(of_address)) for _, of_address in groupby(port.trials, lambda one: one.asked)]
    kinds = list(dict.fromkeys(one.kind for one in port.trials))
    heads = ["address", "asked", "answered from", *kinds]
    table = [heads, *([place, asked, actual, *words] for place, asked, actual, words, _ in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    yield "  " + "  ".join(f"{head:<{width}}" for head, width in zip(heads, widths, strict=True)).rstrip()
    for cells, (*_, outcomes) in zip(table[1:], rows, strict=True):
        plain = [*(f"{cell:<{width}}" for cell, width in zip(cells[:-1], widths, strict=False)), cells[-1]]
        plain[3:] = [
            click.style(cell, fg=COLOURS.get(outcome), dim=outcome in WORDS or None)
            for cell, outcome in zip(plain[3:], outcomes, strict=True)
        ]
        yield f"  {'  '.join(plain)}"
    alike = defaultdict(list)
    for one in port.trials:
        if one.note:
            alike[one.note].append(one)
    for note, trials in alike.items():
        more = f" and {len(trials) - 1} more" if len(trials) > 1 else ""
        yield f"  {trials[0].place.address}{more}, {trials[0].kind}: {note}"
    for how, count in port.calls().most_common():
        yield f"  sent {count} times with {how}"


def _word(one: Trial) -> str:
    return WRONG[one.kind] if one.outcome == "wrong" else WORDS.get(one.outcome, one.outcome)


def _row(trials: list[Trial]) -> tuple[str, str, str, list[str], list[Outcome]]:
    """Place, what was asked, where answers came from, and what became of each kind of client."""
    first = trials[0]
    sources = dict.fromkeys(
        ("the same" if one.actual == one.asked else "the same, other ports")
        if one.outcome in ("right", "failed")
        else str(one.actual)
        for one in trials
        if one.actual
    )
    return (
        f"{first.place.what} ({first.place.interface})",
        str(first.place.address),
        ", ".join(sources) or "-",
        [_word(one) for one in trials],
        [one.outcome for one in trials],
    )


def summary(matrix: Matrix) -> str:
    """One sentence."""
    faults = [one for port in matrix.ports for one in port.faults()]
    asked = ", ".join(dict.fromkeys(str(one.asked) for one in faults))
    command = in_one_line(shlex.join(matrix.command))
    return {
        "right": f"{command} answers from the address that was asked, wherever it listens",
        "wrong": f"{command} does not answer as it was asked at {asked}",
        "partly silent": f"{command} does not answer at {asked}, where it listens",
        "no answer": f"{command} answered nothing",
    }[matrix.verdict]
