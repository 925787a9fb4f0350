"""`udpkit fix advise`: which fix for this case, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from udpkit.cli import say
from udpkit.cli.check import choose, complete_netns
from udpkit.cli.exits import FINDINGS, MISSING, OK, USAGE, Failure
from udpkit.cli.fix_apply import (
    finding_option,
    json_option,
    number_option,
    read_findings,
    understood,
)
from udpkit.evidence import privilege
from udpkit.evidence.namespaces import Namespace, inside

if TYPE_CHECKING:
    from udpkit.diagnosis import Finding
    from udpkit.fixes.choosing import Advice
    from udpkit.lab.advice_proof import Shown
    from udpkit.report.advice import Advised

MOST = 20
"""Findings that are advised on."""
MOST_PROVED = 5
"""Findings that are tried in a copy; each takes some seconds."""
OLDEST = (5, 10)
"""The first Linux that has what an eBPF fix needs."""


@click.command()
@click.option("--pid", type=click.IntRange(min=1), help="Only the UDP sockets of this process.")
@click.option("--netns", metavar="NAME|PATH", shell_complete=complete_netns, help="This network namespace.")
@click.option("--container", metavar="NAME", help="That of this container; a name or an id.")
@finding_option
@number_option
@click.option(
    "--prove", is_flag=True, help="Try each fix in a lab copy of this host, and show what was seen."
)
@json_option
def advise(
    pid: int | None,
    netns: str | None,
    container: str | None,
    file: str | None,
    number: int | None,
    prove: bool,
    as_json: bool,
) -> int:
    """Say which fix for this case, in order of preference, and why. Changes nothing.

    Without --finding: for what `udpkit check` finds here. With --prove the case is played in lab copies of
    this host, with nothing changed and with each fix: by the real program where its command line is known,
    and by plain servers.

    \b
    Exit codes: 0 there is nothing to fix · 1 there is, and this is how
                2 no such process, container or namespace, or no finding in the file
                5 no permission to look or to make hosts · 130 interrupted
    """
    where = {"netns": netns, "pid": pid, "container": container}
    with understood():
        namespace = choose(netns, pid, container)
        findings = found_here(namespace, pid) if file is None else read_findings(file)
        if number is not None:
            if number > len(findings):
                raise Failure(f"--number {number}: there are {len(findings)} findings", USAGE)
            findings = [findings[number - 1]]
        if len(findings) > MOST:
            say(f"of {len(findings)} findings the first {MOST}; see --number")
        no_attach = why_no_attach()
        advised = [
            (finding, inside(namespace, partial(of_finding, finding, where, no_attach)))
            for finding in findings[:MOST]
        ]
        shown = prove_all(namespace, advised, pid) if prove else []
    for place, one in enumerate(shown):
        advised[place] = (advised[place][0], one.advice)
    from udpkit.report import advice as report

    if as_json:
        click.echo(json.dumps(report.document(advised, shown), indent=2))
    else:
        report.show(advised, shown)
    return FINDINGS if advised else OK


def prove_all(namespace: Namespace, advised: Sequence[Advised], pid: int | None) -> list[Shown]:
    """What copies of the host show, of the first findings. Raises Failure, NoIp, OSError."""
    from udpkit.cli.progress import progress_bar
    from udpkit.lab.advice_proof import show_in_mirror
    from udpkit.lab.errors import LabUnavailable

    if len(advised) > MOST_PROVED:
        say(f"of {len(advised)} findings the first {MOST_PROVED} are tried in a copy; see --number")
    shown = []
    for number, (finding, advice) in enumerate(advised[:MOST_PROVED], 1):
        name = f"{number} of {min(len(advised), MOST_PROVED)}: {finding.code}"
        with progress_bar(name, "trying fixes in a copy of the host") as progress:
            try:
                shown.append(show_in_mirror(namespace, finding, advice, pid, progress))
            except LabUnavailable as error:
                raise Failure(str(error), MISSING) from error
    return shown


def found_here(namespace: Namespace, pid: int | None) -> list[Finding]:
    """What `udpkit check` finds, about the sockets of a process if one is named. Raises OSError."""
    from udpkit.diagnosis import diagnose
    from udpkit.evidence.host import look_at
    from udpkit.evidence.owners import socket_holders
    from udpkit.facts import Case

    look = look_at(namespace, socket_holders())
    found = diagnose(Case([], tables=[look.table], hosts=[look.state]))
    if pid is None:
        return [one for one in found if one.is_fault]
    ports = {entry.local.port for entry in look.table.entries if entry.pid == pid}
    if not ports and os.geteuid() != 0:
        say("sockets of other users' processes are not seen: root sees them")
    return [one for one in found if one.server is not None and one.server.port in ports]


def of_finding(finding: Finding, where: Mapping[str, object], no_attach: str) -> list[Advice]:
    from udpkit.fixes import FIXES, applying
    from udpkit.fixes.choosing import choices
    from udpkit.fixes.untrusted import BadFinding, Elsewhere

    obstacles: dict[str, str] = {}
    for fix_id, fix in FIXES.items():
        if fix.commands and fix.is_for(finding) and not fix.folklore:
            try:
                made = applying.plan(fix_id, fix, finding)
                if len(made.done) == len(made.steps):
                    obstacles[fix_id] = "it is so already"
            except (BadFinding, applying.Failed) as error:
                obstacles[fix_id] = str(error)
                if isinstance(error, Elsewhere):
                    no_attach = str(error)
    if no_attach:
        obstacles["attach"] = no_attach
    return choices(finding, where=where, obstacles=obstacles)


def why_no_attach() -> str:
    """Why eBPF cannot be attached here; empty if nothing speaks against it."""
    from udpkit.cli.fix import CAPABILITIES, why_forbidden
    from udpkit.fixes.cgroup import cgroups

    major, minor = (int("".join(filter(str.isdigit, one))) for one in os.uname().release.split(".")[:2])
    if (major, minor) < OLDEST:
        return f"Linux {os.uname().release} is too old: it needs 5.10"
    try:
        cgroups.mount()
    except OSError as error:
        return str(error)
    if privilege.lacking(*CAPABILITIES) or not privilege.is_in_first_user_namespace():
        return why_forbidden(PermissionError())
    return ""
