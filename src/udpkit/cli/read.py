"""`udpkit read`: evidence in, findings out."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from udpkit.cli import say
from udpkit.cli.exits import FINDINGS, OK, USAGE, Failure
from udpkit.diagnosis import diagnose
from udpkit.evidence.captures import STANDARD_INPUT, UnreadableError
from udpkit.evidence.reading import Known, identify, read_case
from udpkit.fixes import advise


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verb(files: Sequence[str], as_json: bool) -> int:
    """Say what is wrong in captures, tcpdump text, strace logs and socket tables.

    What kind a FILE is, its content tells; - is standard input. Several files are read as one case: captures
    of both sides, the server's strace log, its sockets before and after. Captures may be pcap or pcapng, and
    compressed with gzip, zstd or xz.

    \b
    Exit codes: 0 nothing found, or only notes · 1 findings
                2 a file that cannot be read; the others are
    """
    if files.count(STANDARD_INPUT) > 1:
        raise click.UsageError("- can be given once")
    opened: list[Known] = []
    for name in files:
        try:
            opened.append(identify(name))
        except UnreadableError as error:
            say(str(error))
    if not opened:
        return USAGE
    try:
        with progress([one.path for one in opened]) as step:
            case = read_case(opened, step)
    except UnreadableError as error:
        raise Failure(str(error), USAGE) from error
    findings = [advise(finding) for finding in diagnose(case)]
    if as_json:
        from udpkit.report.document import findings_document

        click.echo(json.dumps(findings_document(case.sources, findings, case.unjudged), indent=2))
    else:
        from udpkit.report.console import console
        from udpkit.report.read import show_case

        show_case(console(), case, findings)
    if len(opened) < len(files):
        return USAGE
    return FINDINGS if any(finding.is_fault for finding in findings) else OK


@contextmanager
def progress(files: Sequence[str]) -> Iterator[Callable[[int], None] | None]:
    """Where stderr is a terminal, a bar shows how many bytes were read, of how many where that is known."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total_size(files))
        yield lambda done: bar.update(task, completed=done)


def total_size(files: Sequence[str]) -> int | None:
    """In bytes; None where one of them has no size."""
    try:
        states = [os.fstat(0) if name == STANDARD_INPUT else Path(name).stat() for name in files]
    except OSError:
        return None
    return sum(one.st_size for one in states) if all(stat.S_ISREG(one.st_mode) for one in states) else None
