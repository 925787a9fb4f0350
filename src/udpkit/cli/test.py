"""`udpkit test`: does a server answer from the address that was asked?"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence

import click

from udpkit.cli.exits import FINDINGS, MISSING, OK, SILENT, USAGE, Failure
from udpkit.cli.probe import LARGEST_PAYLOAD, choose_payload, complete_protocol, positive, read_payload
from udpkit.cli.progress import progress_bar
from udpkit.facts.text import printable
from udpkit.lab.errors import LabError
from udpkit.lab.multihomed import Matrix, NoPort, Plan, ServerEnded, Verdict, remedies, run
from udpkit.probe.payload import Payload, payload_of_bytes

EXIT_CODES: dict[Verdict, int] = {
    "right": OK,
    "wrong": FINDINGS,
    "partly silent": FINDINGS,
    "no answer": SILENT,
}


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="SERVER [ARGS]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--as",
    "protocol",
    metavar="NAME[:ARG]",
    shell_complete=complete_protocol,
    help="Ask as this protocol's clients do; udpkit probe --list. Without: by the port.",
)
@click.option("--payload", metavar="TEXT|0xHEX|@FILE", help="Send these bytes instead.")
@click.option(
    "--client",
    metavar="COMMAND",
    help="Run this for each address instead, with {address}, {host}, {port} in it.",
)
@click.option(
    "--port",
    "ports",
    metavar="N",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="Ask this port; without: those that the server opens.",
)
@click.option("--type", "typed", metavar="TEXT", help="Type this line at the server for each request (nc).")
@click.option(
    "--timeout", metavar="SECONDS", default=1.0, show_default=True, help="How long an answer may take."
)
@click.option("--no-strace", is_flag=True, help="Do not look at the server's system calls.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verb(
    command: Sequence[str],
    protocol: str | None,
    payload: str | None,
    client: str | None,
    ports: Sequence[int],
    typed: str | None,
    timeout: float,
    no_strace: bool,
    as_json: bool,
) -> int:
    """Start a server on a lab host with several addresses, and say from which it answers.

    SERVER is any program, unchanged, that stays in the foreground. Each address of its host (a second one on
    the same interface, a second interface, a bridge, an alias on lo, IPv6 of each sort) is asked by a
    connected and by an unconnected client. With strace installed, the system calls that answer are told too.

    \b
    udpkit test -- dnsmasq --no-daemon          asked as DNS: it opens port 53
    udpkit test --as ntp -- ./my-time-server
    udpkit test --payload hello -- python3 server.py
    udpkit test --port 5201 --client 'iperf3 -u -c {address} -t 1' -- iperf3 -s
    udpkit test --type hi -- nc -ul 5000

    \b
    Exit codes: 0 right wherever it listens
                1 wrong somewhere, or silent where it listens
                2 wrong usage · 3 no answer at all, or no server to ask
                5 no permission to make hosts, or a missing program
    """
    if client is not None and (protocol or payload is not None or typed is not None):
        raise click.UsageError("--client excludes --as, --payload and --type")
    plan = Plan(
        command=command,
        ports=list(dict.fromkeys(ports)),
        payload=asked(protocol, payload),
        client=client_words(client),
        typed=f"{typed}\n".encode(errors="surrogateescape") if typed is not None else b"",
        timeout=positive("--timeout", timeout, most=60),
        trace=not no_strace,
    )
    began = time.monotonic()
    try:
        with progress_bar(printable(command[0]), "asking") as tell:
            matrix = run(plan, tell)
    except (NoPort, ServerEnded) as reason:
        if as_json:
            show(Matrix(command, notes=[str(reason)], seconds=time.monotonic() - began), as_json)
        raise Failure(str(reason), SILENT) from reason
    except LabError as reason:
        raise Failure(str(reason), MISSING) from reason
    show(matrix, as_json)
    return EXIT_CODES[matrix.verdict]


def show(matrix: Matrix, as_json: bool) -> None:
    from udpkit.report import multihomed as report

    fixes = remedies(matrix)
    if as_json:
        click.echo(json.dumps(report.document(matrix, fixes), indent=2))
        return
    for line in report.lines(matrix, fixes):
        click.echo(line)


def asked(protocol: str | None, payload: str | None) -> Callable[[int], Payload]:
    """What is sent to each port. Raises Failure."""
    if payload is None or protocol:
        return choose_payload(protocol, payload)
    if payload.startswith("@"):
        data = read_payload(payload)
    elif payload.startswith("0x"):
        data = read_payload(payload[2:])
    else:
        data = payload.encode(errors="surrogateescape")
    if len(data) > LARGEST_PAYLOAD:
        raise Failure(f"--payload: more than {LARGEST_PAYLOAD:,} bytes do not fit into a datagram", USAGE)
    fixed = payload_of_bytes(data)
    return lambda _: fixed


def client_words(client: str | None) -> list[str]:
    """Raises BadParameter."""
    if client is None:
        return []
    try:
        words = shlex.split(client)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--client") from error
    if not words or not any(name in client for name in ("{address}", "{host}")):
        raise click.BadParameter("takes a command with {address} or {host} in it", param_hint="--client")
    return words
