"""`udpkit nc`: netcat that answers from the address that was asked, and says who refused."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from udpkit.cli import say
from udpkit.cli.durations import seconds
from udpkit.cli.exits import INTERRUPTED, OK, Failure

if TYPE_CHECKING:
    from udpkit.netcat.plan import Plan, Talk
    from udpkit.probe.result import Result

AGAIN = 1.0
"""Seconds in which the same news is told once."""
SCAN_WAIT = 1.0
"""Seconds that an answer to a UDP probe may take, where `-w` does not say."""


@click.command()
@click.argument("where", metavar="[HOST] PORT", nargs=-1)
@click.option("-u", "--udp", is_flag=True, help="UDP instead of TCP.")
@click.option("-l", "--listen", is_flag=True, help="Wait for a peer.")
@click.option("-k", "--keep-open", "keep", is_flag=True, help="With -l: serve many peers.")
@click.option("-p", "--source-port", "port", metavar="PORT", help="Local port.")
@click.option("-s", "--source", metavar="ADDRESS", help="Local address.")
@click.option("-4", "ipv4", is_flag=True, help="IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="IPv6 only.")
@click.option("-n", "--nodns", "numeric", is_flag=True, help="No names: addresses and port numbers.")
@click.option("-v", "--verbose", count=True, help="Say who comes and goes.")
@click.option("-z", "scan", is_flag=True, help="Only look which ports are open: 80, http, 20-25, several.")
@click.option(
    "-w", "wait", type=seconds, help="Give up connecting, and end when nothing happened for so long."
)
@click.option(
    "-q",
    "quit_after",
    type=seconds,
    help="End so long after the end of stdin; -1: never, and -l waits for stdin.",
)
@click.option("-i", "interval", type=seconds, help="Pause between lines sent, or ports scanned.")
@click.option("-b", "broadcast", is_flag=True, help="UDP: allow to send to a broadcast address.")
@click.option("-d", "--recv-only", "no_stdin", is_flag=True, help="Do not read stdin.")
@click.option("--send-only", is_flag=True, help="Only send, and end with stdin.")
@click.option("-N", "shutdown", is_flag=True, help="TCP: tell the peer of the end of stdin.")
@click.option("-C", "--crlf", is_flag=True, help="Send CRLF for LF.")
@click.option("--any-source", is_flag=True, help="UDP: take answers from other addresses, too.")
@click.option("--json", "as_json", is_flag=True, help="News on stderr as JSON, one object a line.")
def verb(**given: Any) -> int:
    """Send stdin to a peer and print what it sends, over UDP or TCP, with netcat's flags.

    \b
    udpkit nc -ul 56789          answers from the address that was asked
    udpkit nc -ulk 56789         everybody, not only the first peer
    udpkit nc -u HOST 56789      tells who refused, or answered in its place
    udpkit nc -zv HOST 20-25 80  which TCP ports are open
    udpkit nc -zvu HOST 53       what udpkit probe says of a UDP port

    \b
    Exit codes: 0 all well · 1 refused, or only wrong sources answered
                2 wrong usage, name or address · 3 no answer in time
                4 unreachable or prohibited · 5 missing privilege
    """
    keep_descriptors()
    check(**given)
    from udpkit.netcat import Trouble, run

    talk = News(given["verbose"] > 0, given["as_json"])
    try:
        plan = make_plan(**given)
        return scan_udp(plan, talk) if plan.udp and plan.scan else run(plan, talk)
    except Trouble as trouble:
        raise Failure(str(trouble), trouble.exit_code) from None
    except KeyboardInterrupt:  # here, since click would print an empty line
        return INTERRUPTED


def check(where: Sequence[str], udp: bool, listen: bool, scan: bool, port: str | None, **given: Any) -> None:
    """What does not go together."""
    for wrong, sentence in (
        (given["ipv4"] and given["ipv6"], "-4 or -6, not both"),
        (given["no_stdin"] and given["send_only"], "--recv-only or --send-only, not both"),
        (listen and scan, "-z looks at the ports of others, -l opens one here: not both"),
        (given["keep"] and not listen, "-k needs -l"),
        (given["broadcast"] and not udp, "-b needs -u: TCP knows no broadcast"),
        (given["any_source"] and (listen or not udp), "--any-source is for -u HOST PORT"),
        (any((given[one] or 0) < 0 for one in ("wait", "interval")), "a time is not negative"),
        (listen and not where and not port, "-l needs a port"),
        (listen and len(where) > (1 if port else 2), "-l takes one address and one port"),
        (listen and len(where) == 2 and given["source"], "-l takes one address, as HOST or with -s"),
        (not listen and not where, "a HOST and a PORT are needed; -l PORT waits for others"),
        (not listen and len(where) == 1, f"which port of {where[0] if where else ''}? HOST PORT are needed"),
        (not listen and not scan and len(where) > 2, "several ports need -z"),
    ):
        if wrong:
            raise click.UsageError(sentence)


def make_plan(
    where: Sequence[str], udp: bool, listen: bool, scan: bool, port: str | None, **given: Any
) -> Plan:
    """The plan of a command line that was checked. Raises Trouble."""
    import socket

    from udpkit.netcat.addresses import port_number
    from udpkit.netcat.plan import Plan, Trouble

    def number(text: str) -> int:
        return port_number(text, udp=udp, numeric=given["numeric"])

    def numbers(text: str) -> Sequence[int]:
        ends = text.split("-")
        if len(ends) != 2 or not all(end.isdigit() for end in ends):
            ends = [text]  # the name of a service, perhaps with a dash
        elif not scan:
            raise Trouble(f"{text}: several ports need -z")
        low, *_, high = sorted(number(end) for end in ends * 2)
        return range(low, high + 1)

    source, local = given["source"], number(port) if port else 0
    host = source
    if not listen or len(where) == (1 if port else 2):
        host, *where = where
    ports = dict.fromkeys(one for text in where for one in numbers(text)) or [local]
    limit = given["quit_after"]
    return Plan(
        host=host,
        ports=tuple(ports),
        udp=udp,
        listen=listen,
        keep=given["keep"],
        scan=scan,
        family=socket.AF_INET if given["ipv4"] else socket.AF_INET6 if given["ipv6"] else 0,
        numeric=given["numeric"],
        source=source,
        source_port=local,
        wait=given["wait"],
        quit_after=0.0 if given["send_only"] else math.inf if limit is not None and limit < 0 else limit,
        interval=given["interval"],
        stdin=not given["no_stdin"],
        stdout=not given["send_only"],
        shutdown=given["shutdown"],
        crlf=given["crlf"],
        broadcast=given["broadcast"],
        any_source=given["any_source"],
    )


def scan_udp(plan: Plan, talk: Talk) -> int:
    """`nc -zu HOST PORTS`: the verdicts of `udpkit probe`; 0 if one is open, as with TCP. Raises Trouble."""
    from udpkit.cli.probe import EXIT_CODES

    codes = []
    for one in verdicts(plan):
        talk(
            one.state.value,
            f"{one.target}: {one.state.value}: {', '.join(one.evidence)}",
            verbose=True,
            peer=one.target,
            source=one.reply_from,
            said_by=one.icmp and one.icmp.offender,
            kind=one.icmp and one.icmp.kind,
        )
        codes.append(EXIT_CODES[one.state])
    return OK if OK in codes else max(codes)


def verdicts(plan: Plan) -> list[Result]:
    """Of the ports of the host's first address, in their order. Raises Trouble."""
    from udpkit.netcat.addresses import find, is_group, peer
    from udpkit.netcat.plan import Trouble, cannot_bind
    from udpkit.probe.payload import payload_for
    from udpkit.probe.run import Probe
    from udpkit.probe.wire import Settings, Target

    assert plan.host is not None  # noqa: S101 - the command line has seen to it
    found = find(plan.host, plan.ports[0], plan)[0]
    partner = peer(found)
    if is_group(partner):
        raise Trouble(f"{partner.address} is no host's address: -z looks at the ports of one")
    settings = Settings(
        payload_for,
        timeout=plan.wait or SCAN_WAIT,
        rate=1 / plan.interval if plan.interval else None,
        source=str(find(plan.source, 0, plan, found[0])[0][1][0]) if plan.source else "",
        source_port=plan.source_port,
    )
    probe = Probe([Target(plan.host, partner.address, plan.ports)], settings)
    try:
        probe.run()
    except OSError as error:
        raise cannot_bind(error, plan.source or "", plan.source_port, udp=True) from None
    return list(probe.results())


class News:
    """What happens beside the data, on stderr: sentences, or JSON with everything that `-v` would tell."""

    def __init__(self, verbose: bool, as_json: bool) -> None:
        self._verbose = verbose
        self._as_json = as_json
        self._told: dict[str, tuple[str, float]] = {}

    def __call__(self, event: str, sentence: str, *, verbose: bool = False, **details: object) -> None:
        if verbose and not (self._verbose or self._as_json):
            return
        told, when = self._told.get(event, ("", 0.0))
        now = time.monotonic()
        if told == sentence and now - when < AGAIN:
            return
        self._told[event] = sentence, now
        if self._as_json:
            known = {name: str(value) for name, value in details.items() if value is not None}
            click.echo(json.dumps({"event": event, **known, "text": sentence}), err=True)
        else:
            say(sentence)


def keep_descriptors() -> None:
    """Who closed our stdin or stdout must not find a socket in its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
