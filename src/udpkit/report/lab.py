"""Lab results on a terminal, or in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from udpkit.facts import Datagram, Endpoint, IcmpError
from udpkit.facts.text import printable
from udpkit.lab.experiment import Command, Experiment, Prints
from udpkit.lab.play import Played, Taken
from udpkit.lab.prove import Proof
from udpkit.lab.run import Result
from udpkit.lab.sequence import icmp_name, payload
from udpkit.report.findings import heading, show_findings, show_offers
from udpkit.report.topology import topology

OUTCOMES = {"works": "green", "fails": "red"}
RESULTS = {"pass": "green", "fail": "bold red", "skip": "yellow"}
ENDED = {"pass": "as expected", "fail": "NOT as expected", "skip": "skipped"}
"""What a result is called."""
ARROW = 30
"""Columns between the two ends of a message, at least."""


def show_result(out: Console, result: Result) -> None:
    """One experiment: stage, sequence, sockets, findings, fixes, and how it ended."""
    experiment = result.experiment
    out.print(Text(printable(f"{experiment.name}: {experiment.title}"), "bold"))
    out.print(Text(printable(" ".join(experiment.question.split())), "italic"))
    _show_stage(out, experiment)
    if result.played:
        _show_played(out, experiment, result.played)
        heading(out, "Findings")
        show_findings(out, result.findings)
    if result.proofs:
        heading(out, "Fixes, each tried on fresh hosts")
        out.print(Padding(_proofs(result.proofs), (0, 0, 0, 2)))
    if any(finding.fixes for finding in result.findings):
        heading(out, "How to fix it")
        show_offers(out, result.findings)
    out.print()
    show_outcome(out, result)


def _show_stage(out: Console, experiment: Experiment) -> None:
    """Hosts and cables, what is set up on the hosts, and the programs."""
    heading(out, "Stage")
    for line in topology(experiment.hosts):
        _line(out, line)
    for name, plan in experiment.hosts.items():
        for line in [
            *(f"sysctl {sysctl}={value}" for sysctl, value in plan.sysctls.items()),
            *(f"ip rule add {rule}" for rule in plan.rules),
            *([f"dockerd {plan.docker.options}".rstrip()] if plan.docker else []),
            *plan.commands,
        ]:
            _line(out, f"{name}# {line}")
    for program in experiment.programs.values():
        _line(out, f"{program.on}$ {'strace ' if program.trace else ''}{program.run}")


def _show_played(out: Console, experiment: Experiment, played: Played) -> None:
    """What was captured, called, looked at and printed."""
    for index, source in enumerate(played.case.sources):
        if source.kind == "pcap":
            heading(out, f"Captured on {source.path} (numbers are the capture's packets)")
            messages = [one for one in played.messages if one.seen.source == index]
            if messages:
                out.print(Padding(_sequence(messages), (0, 0, 0, 2)))
            else:
                _line(out, "nothing")
    for name, calls in played.calls.items():
        heading(out, f"System calls of {name} on UDP sockets, from strace")
        for call in calls:
            _line(out, call)
    if played.looks:
        heading(out, "UDP sockets, from the kernel's table")
        out.print(Padding(_sockets(played), (0, 0, 0, 2)))
    if printed := [taken for taken in played.taken if isinstance(taken.step, Command | Prints)]:
        heading(out, "Printed")
        for head, group in groupby(printed, lambda taken: _who_printed(experiment, taken)):
            _line(out, head)
            for line in (line for taken in group for line in taken.seen):
                _line(out, f"  {line}")


def show_outcome(out: Console, result: Result) -> None:
    """One line: how the experiment ended, and why."""
    line = Text.assemble(
        (printable(f"{result.experiment.name}: {ENDED[result.result]}"), RESULTS[result.result]),
        f" ({result.seconds:.1f} s)",
        f": {printable(result.reason)}" if result.reason else "",
    )
    out.print(line)


def show_tables(out: Console, results: Sequence[Result]) -> None:
    """For each file with cases what its columns say, a row for each case that ran."""
    for name, rows in tables(results).items():
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        for column in ["", *columns]:
            table.add_column(Text(printable(column)))
        for case, row in rows.items():
            _row(table, case, *(row.get(column, "") for column in columns))
        heading(out, printable(name))
        out.print(Padding(table, (0, 0, 0, 2)))


def tables(results: Iterable[Result]) -> dict[str, dict[str, dict[str, str]]]:
    """Cells by file, case, and column."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for result in results:
        one = result.experiment
        if one.case and (cells := result.cells()):
            found.setdefault(one.file, {})[one.case] = cells
    return found


def _who_printed(experiment: Experiment, taken: Taken) -> str:
    match taken.step:
        case Command(on, run):
            return f"{on}# {run}"
        case Prints(program):
            return f"{program} on {experiment.programs[program].on}:"
    return ""


def _line(out: Console, text: str) -> None:
    out.print(Text(f"  {printable(text)}"), soft_wrap=True)


def _sequence(messages: Sequence[Datagram | IcmpError]) -> Table:
    """Clients on the left, servers on the right."""
    clients = _clients(messages)
    labels = [payload(one) if isinstance(one, Datagram) else icmp_name(one) for one in messages]
    width = max([ARROW, *(len(label) + 6 for label in labels)])
    grid = Table.grid(padding=(0, 1))
    for message, label in zip(messages, labels, strict=True):
        left, right, to_right = _ends(message, clients)
        style = "" if isinstance(message, Datagram) else "red"
        about = "" if isinstance(message, Datagram) else _about(message, messages)
        arrow = Text(_arrow(label, width, to_right), style)
        grid.add_row(f"{message.seen.packet}", Text(left), arrow, Text(right), Text(about))
    return grid


def _clients(messages: Iterable[Datagram | IcmpError]) -> set[Endpoint]:
    """Who wrote first; what comes to one of them is an answer."""
    clients: set[Endpoint] = set()
    for message in messages:
        if isinstance(message, Datagram) and message.destination not in clients:
            clients.add(message.source)
    return clients


def _ends(message: Datagram | IcmpError, clients: set[Endpoint]) -> tuple[str, str, bool]:
    """(left, right, does it go to the right)."""
    if isinstance(message, Datagram):
        to_right = message.source in clients
        source, destination = str(message.source), str(message.destination)
    else:
        to_right = message.quoted_destination in clients
        source, destination = str(message.sender), str(message.receiver)
    return (source, destination, True) if to_right else (destination, source, False)


def _arrow(label: str, width: int, to_right: bool) -> str:
    line = f" {label} ".center(width - 2, "─")
    return f"{line}─▶" if to_right else f"◀─{line}"


def _about(error: IcmpError, messages: Iterable[Datagram | IcmpError]) -> str:
    """Which datagram an error is about: the last before it that has the quoted addresses."""
    about = None
    for message in messages:
        if message is error:
            break
        if isinstance(message, Datagram) and (message.source, message.destination) == (
            error.quoted_source,
            error.quoted_destination,
        ):
            about = message.seen.packet
    return f"about {about}" if about else f"about {error.quoted_source} > {error.quoted_destination}"


def _sockets(played: Played) -> Table:
    grid = Table.grid(padding=(0, 2))
    for look in played.looks:
        entries = look.table.entries
        for entry in entries:
            peer = f"connected to {entry.peer}" if entry.peer else "unconnected"
            _row(grid, f"{look.on}, {look.when}", str(entry.local), peer, entry.process or "")
        if not entries:
            _row(grid, f"{look.on}, {look.when}", "no socket")
    return grid


def _row(grid: Table, *cells: str) -> None:
    """Text, not markup: rich would take the brackets of an IPv6 address for a style."""
    grid.add_row(*(Text(printable(cell)) for cell in cells))


def _proofs(proofs: Sequence[Proof]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("fix")
    for exchange in proofs[0].trials:
        table.add_column(exchange)
    table.add_column("seen")
    for proof in proofs:
        outcomes = [trial.outcome or "-" for trial in proof.trials.values()]
        table.add_row(
            Text(printable(proof.title)),
            *(Text(outcome, OUTCOMES.get(outcome, "dim")) for outcome in outcomes),
            Text(printable(proof.seen("\n"))),
        )
    return table
