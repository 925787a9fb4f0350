"""`udpkit lab mirror`: a lab copy of a host, to try things in."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from udpkit.cli import say
from udpkit.cli.check import cannot_look, choose, complete_netns
from udpkit.cli.exits import MISSING, OK, USAGE, Failure

if TYPE_CHECKING:
    from udpkit.evidence.configuration import Configuration
    from udpkit.evidence.namespaces import Namespace
    from udpkit.lab import Host


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--netns", metavar="NAME|PATH", shell_complete=complete_netns, help="Copy this network namespace."
)
@click.option("--pid", type=click.IntRange(min=1), help="Copy the network namespace of this process.")
@click.option("--container", metavar="NAME", help="Copy that of this container; a name or an id.")
@click.option("--on", metavar="HOST", help="Run PROGRAM on this client or router instead of on the copy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.argument("program", metavar="[-- PROGRAM]...", nargs=-1, type=click.UNPROCESSED)
def mirror(
    netns: str | None,
    pid: int | None,
    container: str | None,
    on: str | None,
    as_json: bool,
    program: Sequence[str],
) -> int:
    """Build a lab copy of this host, and run PROGRAM in it: udpkit lab mirror -- bash.

    Addresses, routes, policy rules, sysctls, firewall rules and conntrack entries are copied. In each network
    that the host has a route to stands a client. Without PROGRAM: shows what was built, and what could not
    be copied. This host is not changed, and nothing is left.

    \b
    Exit codes: 0 built · 2 no such namespace, process, container or HOST
                5 no permission to look or to make hosts, or a missing program
                with PROGRAM: its own
    """
    if program and as_json:
        raise click.UsageError("--json shows the copy; it cannot run a program as well")
    if on is not None and not program:
        raise click.UsageError("--on takes a PROGRAM")
    from udpkit.lab import Lab, LabError
    from udpkit.lab.mirror import COPY, build
    from udpkit.report import mirror as report

    namespace = choose(netns, pid, container)
    original = looked_at(namespace)
    try:
        with Lab() as lab:
            copy = build(lab, original)
            if as_json:
                click.echo(json.dumps(report.document(namespace.name, original, copy), indent=2))
                return OK
            for line in report.lines(namespace.name, original, copy):
                click.echo(line, err=bool(program))
            if not program:
                return OK
            if (on or COPY) not in lab.hosts:
                raise Failure(f"--on {on}: there is no such host; there is: {', '.join(lab.hosts)}", USAGE)
            return run_on(lab.hosts[on or COPY], program)
    except LabError as error:
        raise Failure(str(error), MISSING) from error


def looked_at(namespace: Namespace) -> Configuration:
    """Raises Failure."""
    from udpkit.evidence.configuration import read_configuration
    from udpkit.evidence.routes import NoIp

    try:
        return read_configuration(namespace)
    except NoIp as error:
        raise Failure(str(error), MISSING) from error
    except OSError as error:
        raise cannot_look(error, namespace.name) from error


def run_on(host: Host, program: Sequence[str]) -> int:
    """Raises LabError."""
    # The lab's programs are in a session of their own, which has no terminal: script(1) makes one.
    if sys.stdin.isatty() and sys.stdout.isatty():
        if shutil.which("script"):
            program = ["script", "-qec", shlex.join(program), "/dev/null"]
        else:
            say("without the program script, PROGRAM has no terminal of its own")
    with same_terminal():
        status = host.attached(*program)
    return status if status >= 0 else 128 - status


@contextmanager
def same_terminal() -> Iterator[None]:
    """What script(1) set is taken back, even if it could not do it itself."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
