"""Applying a fix to a host, asking the kernel whether it is in place, and taking it back.

Everything here is about the network namespace of the calling thread (`evidence.namespaces.inside`). What
goes into a shell line is an address, a number, or quoted.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Container, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from udpkit.diagnosis import Finding
from udpkit.evidence.programs import NOT_FOUND, SEARCH_PATH
from udpkit.evidence.routes import local_addresses
from udpkit.facts import Address, Endpoint
from udpkit.fixes import records
from udpkit.fixes.fix import Fix, fill, values
from udpkit.fixes.records import Record, Step
from udpkit.fixes.untrusted import BadFinding, Elsewhere

PATIENCE = 20
"""Seconds that a command has."""
BROADCAST = IPv4Address("255.255.255.255")
FIREWALL = {f"{family} {table}" for family in ("ip", "ip6") for table in ("nat", "raw")}
"""Tables of nftables that iptables makes for us where there are none."""


class Failed(Exception):
    """The host refuses, and is as it was before, unless the sentence says otherwise."""


class Missing(Failed):
    """A program that a fix needs is not there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A fix, fitted to a finding and to this host. `done` are steps that somebody has taken already."""

    fix_id: str
    client: str
    server: str
    steps: list[Step]
    done: list[Step]
    settle: list[str]
    once: str
    before: dict[str, set[str]] = field(default_factory=dict)


def plan(fix_id: str, fix: Fix, finding: Finding) -> Plan:
    """Looks at the host, and changes nothing. Raises BadFinding, Failed."""
    own = {one.address for one in local_addresses()}
    known = values(finding, own)
    if finding.client is None:
        del known["client"]
    _check_ends(fix, finding, own)
    try:
        for name, line in fix.remembers.items():
            known[name] = _words(_answer(fill(line, known)))
        steps = [
            Step(
                fill(command, known),
                fill(undo, known),
                fill(check.asks, known),
                fill(check.wants, {name: re.escape(value) for name, value in known.items()}),
                check.gone,
            )
            for command, undo, check in zip(
                fix.commands, fix.undo or [""] * len(fix.commands), fix.checks, strict=True
            )
        ]
        made = Plan(
            fix_id,
            known.get("client", "any client"),
            str(finding.server or "any server"),
            steps,
            [],
            [fill(line, known) for line in fix.settle],
            fill(fix.once, known),
            {step.asks: _matches(step) for step in steps if step.gone},
        )
    except KeyError as error:
        raise BadFinding(f"the finding does not tell the {str(error.args[0]).replace('_', ' ')}") from error
    made.done.extend(step for step in steps if (not made.before[step.asks] if step.gone else in_place(step)))
    return made


def _check_ends(fix: Fix, finding: Finding, own: Container[Address]) -> None:
    """Raises BadFinding for ends that this fix, or this host, has nothing to do with."""
    ends = {"address": finding.server, "actual": finding.actual or finding.server}
    for name in fix.local:
        of_host = ends[name]
        if of_host and of_host.address not in own:
            raise Elsewhere(f"{of_host.address} is no address of this host: apply it where the server is")
    client = finding.client.address if isinstance(finding.client, Endpoint) else None
    if client and (client in own or client.is_unspecified or client == BROADCAST):
        raise BadFinding(f"{client} is no client of this host's: its answers go nowhere by a route")
    for end in (finding.server, finding.client, finding.actual):
        if isinstance(end, Endpoint) and (end.address.is_link_local or end.address.is_multicast):
            raise BadFinding(f"{end.address}: this fix knows neither link-local addresses nor groups")


def _words(answer: str) -> str:
    """What the kernel printed, for a shell: an interface may be called `$(reboot)`."""
    return " ".join(map(shlex.quote, answer.split()))


def apply(made: Plan, place: str) -> Record | None:
    """Carry out what is not done yet, all or nothing; returns what was noted, None for what has no undo.

    To be called locked. Raises Failed, OSError.
    """
    steps = [step for step in made.steps if step not in made.done]
    namespace = records.namespace_key()
    for other in records.read(namespace):
        if made.once and (other.fix, other.once) == (made.fix_id, made.once):
            raise Failed(f"it is applied already, for {other.about}: udpkit fix undo {made.fix_id}")
    record = Record(
        fix=made.fix_id,
        namespace=namespace,
        place=place,
        once=made.once,
        since=time.time(),
        client=made.client,
        server=made.server,
        steps=steps,
        settle=made.settle,
    )
    undoable = any(step.undo for step in steps)
    if any(step.command.startswith(("iptables", "ip6tables")) for step in steps):
        record.tables = sorted(FIREWALL - nft_tables())
    if undoable:
        records.write(record)  # first: whatever ends us, what was done can be undone
    taken: list[Step] = []
    try:
        for step in steps:
            run(step.command)
            taken.append(step)
        settle(record)
        for step in steps:
            if not in_place(step, made.before.get(step.asks, set())):
                raise Failed(
                    f"the kernel does not do it, asked by `{step.asks}`: {answer(step) or 'no answer'}"
                )
        record.complete = True
        if undoable:
            records.write(record)
    except BaseException as error:
        # The one that was interrupted may have done its work.
        half = [step for step in steps[len(taken) : len(taken) + 1] if step.undo and in_place(step)]
        left = _take_back([*taken, *half], record, partly=True)
        if not left and undoable:
            records.forget(record)
        elif left and isinstance(error, Failed):
            raise Failed(f"{error}; and could not be taken back: {left[0]}") from error
        raise
    return record if undoable else None


def undo(record: Record) -> list[str]:
    """Take back what was noted; returns what failed. Then the note stays. To be called locked."""
    # One that was ended in the middle has steps that were never taken; this may be, too, and be repeated.
    was_complete, record.complete = record.complete, False
    records.write(record)
    left = _take_back(record.steps, record, partly=not was_complete)
    if left:
        record.complete = was_complete
        records.write(record)
    else:
        records.forget(record)
        for other in records.read(record.namespace):  # it may be using a table that we have made
            if set(record.tables) - set(other.tables):
                other.tables = sorted({*record.tables, *other.tables})
                records.write(other)
    return left


def _take_back(steps: Sequence[Step], record: Record, *, partly: bool) -> list[str]:
    """Returns what failed. `partly`: where a step is not in place, there is nothing to take back."""
    left = []
    for step in reversed(steps):
        if step.undo:
            try:
                run(step.undo)
            except Failed as error:
                if not partly or in_place(step):
                    left.append(str(error))
    for table in record.tables:
        _remove_if_empty(table)
    settle(record)
    return left


def settle(record: Record) -> None:
    """Let flows that exist follow; there may be none, nor conntrack(8)."""
    for line in record.settle:
        shell(line)


def in_place(step: Step, before: AbstractSet[str] = frozenset()) -> bool:
    if step.gone:
        return not _matches(step) & before
    status, output, _ = shell(step.asks)
    return status == 0 and re.search(step.wants, output, re.MULTILINE) is not None


def _matches(step: Step) -> set[str]:
    return set(re.findall(step.wants, _answer(step.asks, empty=True)))


def answer(step: Step) -> str:
    """The first line that the kernel answers to what a step asks; empty if it says nothing."""
    _, output, errors = shell(step.asks)
    return (output.strip() or errors.strip() or " ").splitlines()[0].strip()


def run(line: str) -> None:
    """Raises Failed."""
    status, output, errors = shell(line)
    if status:
        raise _failure(line, output, errors)


def _answer(line: str, *, empty: bool = False) -> str:
    status, output, errors = shell(line)
    if status or not (empty or output.strip()):
        raise _failure(line, output, errors)
    return output


def _failure(line: str, output: str, errors: str) -> Failed:
    if missing := NOT_FOUND.search(errors):
        return Missing(f"{missing[1]} is not installed, which this fix needs")
    said = (errors.strip() or output.strip()).splitlines()
    return Failed(f"`{line}`: {said[-1] if said else 'it failed'}")


def shell(line: str) -> tuple[int, str, str]:
    """Its status, and what it printed. Raises Failed if it takes too long."""
    with subprocess.Popen(
        ["/bin/sh", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C", "PATH": SEARCH_PATH},
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # nothing that the shell has started does its work later
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"`{line}` did not end in {PATIENCE} s") from error
            raise
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


def nft_tables() -> set[str]:
    """The tables of nftables, as `family name`; none where there is no nft(8)."""
    lines = shell("nft list tables")[1].splitlines()
    return {line.removeprefix("table ") for line in lines if re.fullmatch(r"table \w+ \w+", line)}


def _remove_if_empty(table: str) -> None:
    """iptables makes the tables and chains it needs, and leaves them behind."""
    status, text, _ = shell(f"nft list table {table}")
    inside = re.sub(r"\b(table \w+ \w+|chain \w+|type \w+ hook [^;]*; policy accept;)|[{}\s]|#.*", "", text)
    if status == 0 and not inside:
        shell(f"nft delete table {table}")
