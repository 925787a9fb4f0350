"""`udpkit probe`: is that UDP port reachable, honestly?"""

from __future__ import annotations

import gc
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from udpkit.cli.exits import CLOSED, INTERRUPTED, OK, SILENT, UNREACHABLE, USAGE, Failure
from udpkit.cli.probe_sockets import no_socket
from udpkit.probe.payload import Payload, payload_for, payload_of
from udpkit.probe.protocols import LINE, PROTOCOLS
from udpkit.probe.result import Result, State
from udpkit.probe.run import Probe
from udpkit.probe.targets import BadTarget, parse_ports, parse_targets
from udpkit.probe.wire import Settings, Target
from udpkit.report.probe import lines, result_document

EXIT_CODES = {
    State.OPEN: OK,
    State.WRONG_SOURCE: CLOSED,
    State.CLOSED: CLOSED,
    State.SILENT: SILENT,
    State.PROHIBITED: UNREACHABLE,
    State.UNREACHABLE: UNREACHABLE,
}
LARGEST_PAYLOAD = 65_507
"""Bytes: RFC 768 over IPv4."""


def complete_protocol(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    return [CompletionItem(name) for name in PROTOCOLS if name.startswith(typed)]


def show_list(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        for one in PROTOCOLS.values():
            ports = ",".join(map(str, one.ports))
            click.echo(
                f"{one.name:<10} {ports:<16} {one.title}{f'; ARG: {one.argument}' if one.argument else ''}"
            )
        context.exit()


@click.command()
@click.argument("host")
@click.argument("ports", nargs=-1)
@click.option("-4", "version", flag_value=4, type=int, help="Only IPv4 addresses of a name.")
@click.option("-6", "version", flag_value=6, type=int, help="Only IPv6 addresses of a name.")
@click.option(
    "--as",
    "protocol",
    metavar="NAME[:ARG]",
    shell_complete=complete_protocol,
    help="Send what this protocol's services answer to, whatever the port; see --list.",
)
@click.option("--payload", metavar="HEX|@FILE", help="Send these bytes instead.")
@click.option(
    "--timeout", metavar="SECONDS", default=1.0, show_default=True, help="How long an answer may take."
)
@click.option(
    "--retries",
    metavar="N",
    type=click.IntRange(0, 100),
    default=3,
    show_default=True,
    help="More probes to a silent port, at least.",
)
@click.option(
    "--rate", metavar="N", type=float, help="Probes a second at most; without: as fast as they answer."
)
@click.option("--source", metavar="ADDRESS", default="", help="Send from this address of this host.")
@click.option("--interface", metavar="NAME", help="Send through this interface.")
@click.option("--every", metavar="SECONDS", help="Keep asking, like ping: 1s, 500ms, …")
@click.option("--count", metavar="N", type=click.IntRange(1), help="With --every: so many times.")
@click.option(
    "--prometheus",
    metavar="FILE",
    help="With --every: keep metrics in this file, for node_exporter's textfile.",
)
@click.option("--trace", is_flag=True, help="Hop by hop to where the datagram stops; and the path MTU.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_list,
    help="List the protocols and end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verb(
    host: str,
    ports: Sequence[str],
    version: int | None,
    protocol: str | None,
    payload: str | None,
    timeout: float,
    retries: int,
    rate: float | None,
    source: str,
    interface: str | None,
    every: str | None,
    count: int | None,
    prometheus: str | None,
    trace: bool,
    as_json: bool,
) -> int:
    """Say of UDP ports whether they are open, closed, silent and so on, and how that is known.

    HOST is a name, an address, a network (192.0.2.0/24), a list of those with commas, or @FILE with one a
    line. PORTS are numbers, ranges, names of services or protocols, lists, or @FILE; without PORTS, those of
    the protocols that it speaks (--list).

    \b
    udpkit probe 192.0.2.1 53                what is there?
    udpkit probe 192.0.2.1 6990-7002,dns     a sweep
    udpkit probe 192.0.2.1 5353 --as dns     DNS on another port
    udpkit probe 192.0.2.1 53 --every 1s     keep asking, like ping
    udpkit probe 192.0.2.1 53 --trace        where does it stop?

    \b
    Exit codes: 0 open · 1 closed, or answered from another address
                2 wrong usage, unknown name · 3 silent
                4 prohibited or unreachable; of several ports the highest
    """
    if trace and every is not None:
        raise click.UsageError("--trace and --every exclude each other")
    if every is None and (count is not None or prometheus is not None):
        raise click.UsageError("--count and --prometheus need --every")
    chosen = choose_payload(protocol, payload)
    try:
        numbers = parse_ports(ports) if ports else default_ports(protocol)
        targets = parse_targets([host], numbers, version_for(source, version), interface)
    except BadTarget as error:
        raise Failure(str(error), USAGE) from error
    settings = Settings(
        chosen,
        timeout=positive("--timeout", timeout),
        retries=retries,
        rate=None if rate is None else positive("--rate", rate, most=1_000_000),
        source=source,
        interface=interface,
    )
    if trace:
        from udpkit.cli.probe_trace import run_trace

        return run_trace(targets, settings, as_json)
    if every is not None:
        from udpkit.cli.probe_every import run_every

        return run_every(targets, settings, every, count, prometheus, as_json)
    return run_sweep(targets, settings, as_json)


def run_sweep(targets: Sequence[Target], settings: Settings, as_json: bool) -> int:
    """Probe every port, and show the verdicts; those that are known, if interrupted."""
    gc.disable()  # a sweep makes a million small objects and no cycles; to look for those took a fifth of it
    probe = Probe(targets, settings)
    documents: dict[int, tuple[Result, Any]] = {}  # by the result's id(), which is its own while it is kept

    def write(result: Result) -> None:
        documents[id(result)] = result, result_document(result)

    interrupted = False
    try:
        with progress(probe) as tell:
            probe.run(tell, write) if as_json else probe.run(tell)
    except KeyboardInterrupt:
        interrupted = True
    except OSError as error:
        raise no_socket(settings, error) from error
    results = list(probe.results())
    if as_json:
        show_json([documents.get(id(one), (one, None))[1] or result_document(one) for one in results])
    else:
        for line in lines(results, shutil.get_terminal_size().columns if sys.stdout.isatty() else None):
            click.echo(line)
    return INTERRUPTED if interrupted else max((EXIT_CODES[one.state] for one in results), default=SILENT)


def show_json(documents: Sequence[Any]) -> None:
    import msgspec  # pure Python's json takes seconds for all ports of a host

    click.echo(msgspec.json.format(msgspec.json.encode({"schema": 1, "results": documents}), indent=2))


def version_for(source: str, version: int | None) -> int | None:
    """Of the targets: what is sent from an address has its IP version."""
    if not source:
        return version
    try:
        of_source = ip_address(source).version
    except ValueError:
        raise click.BadParameter("takes an address of this host", param_hint="--source") from None
    if version not in (None, of_source):
        raise click.UsageError(f"--source {source} is not an IPv{version} address")
    return of_source


def positive(option: str, value: float, most: int = 3600) -> float:
    if not 0 < value <= most:
        raise click.BadParameter(f"takes a number above 0, up to {most:,}", param_hint=option)
    return value


def default_ports(protocol: str | None) -> list[int]:
    """Those of the protocol, or of all."""
    chosen = [PROTOCOLS[protocol.partition(":")[0]]] if protocol else PROTOCOLS.values()
    return sorted({port for one in chosen for port in one.ports})


def choose_payload(protocol: str | None, payload: str | None) -> Callable[[int], Payload]:
    """What to send to each port. Raises Failure."""
    if protocol and payload:
        raise click.UsageError("--as and --payload exclude each other")
    if payload is not None:
        fixed = Payload(LINE, read_payload(payload))
        return lambda _: fixed
    if protocol is None:
        return payload_for
    name, colon, argument = protocol.partition(":")
    if name not in PROTOCOLS:
        raise Failure(f"there is no protocol called {name}: udpkit probe --list shows them", USAGE)
    chosen = PROTOCOLS[name]
    try:
        payload_of(chosen, argument if colon else None)
    except ValueError as error:
        raise Failure(f"--as {protocol}: {error}", USAGE) from error
    return lambda _: payload_of(chosen, argument if colon else None)


def read_payload(text: str) -> bytes:
    if text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as file:
                data = file.read(LARGEST_PAYLOAD + 1)
        except OSError as error:
            raise Failure(f"{text[1:]}: {error.strerror}", USAGE) from error
    else:
        try:
            data = bytes.fromhex(text)
        except ValueError as error:
            raise Failure("--payload takes pairs of hexadecimal digits, or @FILE", USAGE) from error
    if len(data) > LARGEST_PAYLOAD:
        raise Failure(f"--payload: more than {LARGEST_PAYLOAD:,} bytes do not fit into a datagram", USAGE)
    return data


@contextmanager
def progress(probe: Probe) -> Iterator[Callable[[Probe], None]]:
    """Where stderr is a terminal and it takes a while, a bar."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("probing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ports"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=probe.total)
        shown = 0.0

        def tell(probe: Probe) -> None:
            nonlocal shown
            if time.monotonic() - shown > 0.1:  # to count is work, where many ports are silent
                shown = time.monotonic()
                bar.update(task, completed=probe.done)

        yield tell
