"""`udpkit probe --trace`: hop by hop to where the datagram stops, and the path MTU."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence

import click

from udpkit.cli.exits import INTERRUPTED, SILENT, USAGE, Failure
from udpkit.cli.probe import EXIT_CODES
from udpkit.facts import Endpoint
from udpkit.probe.run import Settings, Target
from udpkit.probe.trace import Trace
from udpkit.report.trace import document, lines, title


def run_trace(targets: Sequence[Target], settings: Settings, as_json: bool) -> int:
    """Trace every address in turn, with one port; returns the highest exit code. JSON: a document each."""
    if any(len(target.ports) != 1 for target in targets):
        raise click.UsageError("--trace takes one port")
    code = 0
    for target in targets:
        end = Endpoint(target.address, target.ports[0])
        try:
            trace = Trace(target.name, end, settings)
        except OSError as error:
            named = settings.interface if error.errno == errno.ENODEV else settings.source
            raise Failure(f"{named}: {error.strerror}" if named else str(error), USAGE) from error
        try:
            (run_quietly if as_json else run_aloud)(trace, target.name)
        except KeyboardInterrupt:
            code = INTERRUPTED
        if as_json:
            click.echo(json.dumps(document(trace), indent=2))
        if code == INTERRUPTED:
            return code
        code = max(code, EXIT_CODES[trace.result.state] if trace.result else SILENT)
    return code


def run_quietly(trace: Trace, _name: str) -> None:
    """To its end."""
    for _ in trace.run():
        pass


def run_aloud(trace: Trace, name: str) -> None:
    """A line as soon as something is known."""
    click.echo(title(name, trace.target))
    for known in trace.run():
        for line in lines(known, trace.target.address.version):
            click.echo(line)
