"""Findings on a terminal: what, why, where it was seen, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from udpkit.diagnosis import Finding, Offer, Severity
from udpkit.facts import Reference, Source
from udpkit.facts.text import in_one_line, printable
from udpkit.fixes import FIXES

COLOURS: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "blue"}
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The worst first."""
MOST = 100
"""Findings that are told on a terminal; JSON has all."""


def heading(out: Console, title: str) -> None:
    out.print()
    out.print(Text(printable(title), "bold cyan"))


def show_diagnosis(
    out: Console, findings: Sequence[Finding], sources: Sequence[Source] = (), *, none: str = "none"
) -> None:
    """The findings, the worst first and at most `MOST`, and what to do. `none`: said where there are none."""
    heading(out, "Findings")
    worst_first = sorted(findings, key=lambda one: SEVERITIES.index(one.severity))
    shown = worst_first[:MOST]
    show_findings(out, _together(shown), sources, none=none)
    if len(findings) > MOST:
        out.print(f"  and {len(findings) - MOST} more: --json has them all")
    if any(finding.fixes for finding in shown):
        heading(out, "How to fix it")
        show_offers(out, shown)


def _together(findings: Sequence[Finding]) -> list[Finding]:
    """What is said of the same sockets as one finding, with the steps of the first."""
    groups: dict[object, list[Finding]] = {}
    for number, one in enumerate(findings):
        groups.setdefault((one.code, one.severity, *one.evidence) if one.evidence else number, []).append(one)
    return [
        replace(group[0], summary=_sentences([one.summary for one in group])) for group in groups.values()
    ]


def _sentences(summaries: Sequence[str]) -> str:
    """One below the other; what all begin with, up to a colon, is said once."""
    subject, colon, _ = summaries[0].partition(": ")
    if len(summaries) == 1 or not all(one.startswith(subject + colon) for one in summaries):
        return "\n".join(summaries)
    return "\n".join([f"{subject}:", *(f"- {one.removeprefix(subject + colon)}" for one in summaries)])


def show_findings(
    out: Console, findings: Sequence[Finding], sources: Sequence[Source] = (), *, none: str = "none"
) -> None:
    """Each finding with the steps that explain it and, given the `sources`, where it was seen."""
    if not findings:
        out.print(Text(f"  {none}"))
    for finding in findings:
        title = Text.assemble(
            (finding.severity, f"bold {COLOURS[finding.severity]}"), " ", (finding.code, "bold")
        )
        out.print(Padding(title, (0, 2)))
        out.print(Padding(Text(printable(finding.summary)), (0, 4)))
        for number, step in enumerate(finding.why, start=1):
            grid = Table.grid(padding=(0, 1))
            grid.add_row(f"{number}.", Text(printable(step)))
            out.print(Padding(grid, (0, 4)))
        if sources and finding.evidence:
            out.print(Padding(Text(f"seen in {where(finding.evidence, sources)}", "dim"), (0, 4)))


def where(evidence: Sequence[Reference], sources: Sequence[Source]) -> str:
    """`packets 2, 3 of a.pcap; line 7 of b.txt`; of a single source without its name."""
    numbers: dict[int, dict[str, None]] = {}
    for reference in evidence:
        numbers.setdefault(reference.source, {})[str(reference.packet or reference.line)] = None
    places = []
    for index, seen in numbers.items():
        unit = "line" if any(one.line is not None for one in evidence if one.source == index) else "packet"
        place = f"{unit}{'s' if len(seen) > 1 else ''} {', '.join(seen)}"
        places.append(place if len(sources) == 1 else f"{place} of {in_one_line(sources[index].path)}")
    return "; ".join(places)


def show_offers(out: Console, findings: Sequence[Finding]) -> None:
    """The fixes of all findings: a command for each that it helps, advice once, settings once a program."""
    offers: dict[tuple[str, str | None], Offer] = {}
    for finding in findings:
        for offer in finding.fixes:
            fix = FIXES[offer.id]
            of_program = finding.process if fix.known(finding) else ""
            offers.setdefault((offer.id, offer.command if fix.commands else of_program), offer)
    for offer in offers.values():
        mark = {True: " (proven here)", False: " (does not help here)", None: ""}[offer.verified]
        out.print(Text.assemble("  ", (offer.id, "bold"), mark))
        command = Text(printable(offer.command))
        if FIXES[offer.id].commands:
            out.print(Text("    ").append(command), soft_wrap=True)  # to be copied: not a line end in it
        else:
            out.print(Padding(command, (0, 4)))
        out.print(Padding(Text(printable(offer.tradeoff), "dim"), (0, 4)))
