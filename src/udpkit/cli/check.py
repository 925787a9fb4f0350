"""`udpkit check`: this host's UDP sockets, before any traffic."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from udpkit.cli import say
from udpkit.cli.exits import FINDINGS, MISSING, OK, USAGE, Failure
from udpkit.evidence import namespaces
from udpkit.evidence.namespaces import Namespace

if TYPE_CHECKING:
    from udpkit.evidence.host import Look
    from udpkit.facts import Source


def complete_netns(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    try:
        names = sorted(entry.name for entry in namespaces.NAMED.iterdir())
    except OSError:
        names = []
    named = [CompletionItem(name) for name in names if name.startswith(typed)]
    return named or [CompletionItem(typed, type="file")]


@click.command()
@click.option(
    "--netns", metavar="NAME|PATH", shell_complete=complete_netns, help="Look into this network namespace."
)
@click.option("--pid", type=click.IntRange(min=1), help="Look into the network namespace of this process.")
@click.option("--container", metavar="NAME", help="Look into that of this container; a name or an id.")
@click.option("--all-namespaces", "every", is_flag=True, help="Look into all network namespaces.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verb(netns: str | None, pid: int | None, container: str | None, every: bool, as_json: bool) -> int:
    """Check this host's UDP sockets before any traffic.

    Shows every socket with its process, its options, its queue and its drops. Asks the kernel's routes which
    clients would be answered from an address that they did not ask. Shows what the error counters mean, and
    conntrack entries that lead nowhere. Changes nothing and sends nothing.

    Without root: what can be seen, and what root would add.

    \b
    Exit codes: 0 nothing found, or only notes · 1 findings
                2 no such namespace, process or container · 5 no permission to look
    """
    if sum(one is not None for one in (netns, pid, container, every or None)) > 1:
        raise click.UsageError("--netns, --pid, --container and --all-namespaces exclude each other")
    from udpkit.diagnosis import diagnose
    from udpkit.facts import Case
    from udpkit.fixes import advise

    looks = look_into_all() if every else [look_into(choose(netns, pid, container))]
    sources = [source_of(look) for look in looks]
    case = Case(sources, tables=[look.table for look in looks], hosts=[look.state for look in looks])
    findings = [advise(finding) for finding in diagnose(case)]
    for look in looks:
        for sentence in look.missing:
            say(f"{look.namespace.name}: {sentence}" if look.namespace.name else sentence)
    from udpkit.report.check import check_document, show_check

    if as_json:
        click.echo(json.dumps(check_document(sources, looks, findings), indent=2))
    else:
        show_check(looks, findings)
    return FINDINGS if any(finding.is_fault for finding in findings) else OK


def look_into(namespace: Namespace) -> Look:
    """Raises Failure."""
    from udpkit.evidence.host import look_at
    from udpkit.evidence.owners import socket_holders

    try:
        return look_at(namespace, socket_holders())
    except OSError as error:
        raise cannot_look(error, namespace.name) from error


def cannot_look(error: OSError, where: str = "") -> Failure:
    """What keeps us from looking into a namespace, or from changing it."""
    root = ": this takes root" if isinstance(error, PermissionError) else ""
    return Failure(f"{where}{': ' if where else ''}{error.strerror or error}{root}", MISSING)


def look_into_all() -> list[Look]:
    """Every namespace; those that cannot be entered are told and left out."""
    from udpkit.evidence.host import look_at
    from udpkit.evidence.owners import socket_holders

    chosen = namespaces.every()
    if os.geteuid() != 0:
        say("the namespaces of other users' processes are left out: root sees them")
    holders = socket_holders()
    looks: list[Look] = []
    for namespace in chosen:
        try:
            looks.append(look_at(namespace, holders, source=len(looks)))
        except OSError as error:
            say(f"{namespace.name}: {error.strerror or error}: left out")
    return looks


def choose(netns: str | None, pid: int | None, container: str | None) -> Namespace:
    """The namespace that was asked for. Raises Failure, UsageError."""
    if sum(one is not None for one in (netns, pid, container)) > 1:
        raise click.UsageError("--netns, --pid and --container exclude each other")
    try:
        if netns is not None:
            return namespaces.by_name(netns)
        if pid is not None:
            return namespaces.of_process(pid)
        if container is not None:
            return namespaces.of_container(container)
    except PermissionError as error:
        raise cannot_look(error, error.filename) from error
    except ProcessLookupError as error:
        raise Failure(f"--pid {pid}: there is no such process", USAGE) from error
    except OSError as error:
        raise Failure(f"--netns {netns}: {error.strerror}", USAGE) from error
    except LookupError as error:
        raise Failure(f"--container {container}: {error}", USAGE) from error
    return namespaces.own()


def source_of(look: Look) -> Source:
    """A namespace's tables; what could not be seen of it is in `unread`."""
    from udpkit.facts import Source

    name = look.namespace.name
    return Source(
        f"/proc/net/udp, udp6 of {name}" if name else "/proc/net/udp, udp6",
        "sockets",
        packets=len(look.table.entries),
        unread=dict.fromkeys(look.missing, 1),
    )
