"""`udpkit probe --trace`: hop by hop to where the datagram stops, and the path MTU."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence

import click

from udpkit.cli.exits import INTERRUPTED, SILENT
from udpkit.cli.probe import EXIT_CODES
from udpkit.cli.probe_sockets import no_socket
from udpkit.facts import Endpoint
from udpkit.probe.trace import Trace
from udpkit.probe.wire import Settings, Target
from udpkit.report.trace import document, lines, title


def run_trace(targets: Sequence[Target], settings: Settings, as_json: bool) -> int:
    """Trace every address in turn, with one port; returns the highest exit code. JSON: a document each."""
    if any(len(target.ports) != 1 for target in targets):
        raise click.UsageError("--trace takes one port")
    code = 0
    for target in targets:
        try:
            trace = Trace(target.name, Endpoint(target.address, target.ports[0]), settings)
        except OSError as error:
            raise no_socket(settings, error) from error
        interrupted = run_one(trace, target.name, as_json)
        if as_json:
            click.echo(json.dumps(document(trace), indent=2))
        if interrupted:
            return INTERRUPTED
        code = max(code, EXIT_CODES[trace.result.state] if trace.result else SILENT)
    return code


def run_one(trace: Trace, name: str, as_json: bool) -> bool:
    """A line as soon as something is known, unless a document follows. Returns whether Ctrl-C ended it."""
    say: Callable[[str], None] = (lambda _: None) if as_json else click.echo
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    try:
        say(title(name, trace.target))
        for known in trace.run():
            for line in lines(known, trace.target.address.version, columns):
                say(line)
    except KeyboardInterrupt:
        return True
    return False
