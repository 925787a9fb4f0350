"""Which fixes are advised for findings, and what was seen of them: on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from udpkit.diagnosis import Finding
from udpkit.facts.text import in_one_line
from udpkit.fixes import advise as with_fixes
from udpkit.fixes.choosing import Advice
from udpkit.report.document import SCHEMA, finding_document, proof_document

if TYPE_CHECKING:
    from udpkit.lab.advice_proof import Shown

Advised = tuple[Finding, list[Advice]]

OUTCOMES = {True: ("works", "green"), False: ("fails", "red"), None: ("tells nothing", "yellow")}
"""What was seen of a fix, in words and in a colour."""


def document(advised: Sequence[Advised], shown: Sequence[Shown]) -> dict[str, Any]:
    """The JSON document of `udpkit fix advise`. `shown`: of the first ones, what a copy of the host did."""
    told = []
    for place, (finding, advice) in enumerate(advised):
        seen = {one.id: one for one in advice}
        verified = {one.id: one.verified for one in advice if one.verified is not None}
        findings = finding_document(with_fixes(finding, verified))
        findings["advice"] = [asdict(one) for one in advice]
        if place < len(shown):
            for fix in findings["fixes"]:
                fix["seen"] = seen[fix["id"]].seen
            findings["proofs"] = [proof_document(one) for one in shown[place].proofs]
            findings["notes"] = list(shown[place].notes)
        told.append(findings)
    return {"schema": SCHEMA, "findings": told}


def show(advised: Sequence[Advised], shown: Sequence[Shown]) -> None:
    """What is alike is told once: findings of one kind about one program."""
    if not advised:
        click.echo("nothing to fix was found")
    alike: dict[tuple[str, str | None], list[int]] = {}
    for place, (finding, _) in enumerate(advised):
        alike.setdefault((finding.code, finding.process), []).append(place)
    for (code, _), group in alike.items():
        click.secho(code, bold=True)
        for place in group:
            finding = advised[place][0]
            click.echo(f"  {in_one_line(finding.summary or f'{finding.client} asks {finding.server}')}")
        before = [one.proofs[0] for place in group for one in shown[place : place + 1] if one.proofs]
        for seen in dict.fromkeys(proof.seen() for proof in before):
            click.echo(f"  in a copy of this host, nothing changed: {in_one_line(seen)}")
        by_id: dict[str, list[Advice]] = {}
        for place in group:
            for one in advised[place][1]:
                by_id.setdefault(one.id, []).append(one)
        for rank, same in enumerate(by_id.values(), 1):
            _show_fix(rank, same)
    if notes := dict.fromkeys(note for one in shown for note in one.notes):
        click.echo("of the copy:")
        for note in notes:
            click.echo(f"  {in_one_line(note)}")


def _show_fix(rank: int, same: Sequence[Advice]) -> None:
    """One fix, with what is told of it for each finding."""
    click.secho(f"  {rank}. {same[0].id}", bold=True, nl=False)
    click.echo(f" — {same[0].why}")
    for command, obstacle in dict.fromkeys((one.command, one.obstacle) for one in same):
        click.echo(f"     {in_one_line(command)}")
        if obstacle:
            click.secho(f"     not here: {in_one_line(obstacle)}", fg="yellow")
    for verified, seen in dict.fromkeys((one.verified, one.seen) for one in same if one.seen):
        words, colour = OUTCOMES[verified]
        click.secho(f"     {words} in the copy ({in_one_line(seen)})", fg=colour)
    for tradeoff in dict.fromkeys(one.tradeoff for one in same):
        click.echo(f"     trade-off: {in_one_line(tradeoff)}")
