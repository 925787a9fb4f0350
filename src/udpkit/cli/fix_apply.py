"""`udpkit fix apply`, `verify`, `undo`: the fixes for a host."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from udpkit.cli import say
from udpkit.cli.check import cannot_look, choose, complete_netns
from udpkit.cli.exits import FINDINGS, MISSING, OK, USAGE, Failure
from udpkit.evidence import privilege
from udpkit.evidence.namespaces import Namespace, inside
from udpkit.evidence.programs import find

if TYPE_CHECKING:
    from udpkit.diagnosis import Finding
    from udpkit.fixes import Fix
    from udpkit.fixes.records import Record

F = TypeVar("F", bound=Callable[..., Any])
MOST_SHOWN = 5
"""Findings that are told apart, where one has to be chosen."""


def places(function: F) -> F:
    """The options that say on which host."""
    for option in (
        click.option("--container", metavar="NAME", help="That of this container; a name or an id."),
        click.option("--pid", type=click.IntRange(min=1), help="The network namespace of this process."),
        click.option(
            "--netns", metavar="NAME|PATH", shell_complete=complete_netns, help="This network namespace."
        ),
    ):
        function = option(function)
    return function


finding_option = click.option(
    "--finding",
    "file",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="JSON of udpkit read, watch or check; - is standard input.",
)
number_option = click.option("--number", type=click.IntRange(min=1), help="Which finding of the file.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def complete_name(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from udpkit.fixes import FIXES

    return [
        CompletionItem(name, help=fix.title)
        for name, fix in FIXES.items()
        if name.startswith(typed) and not fix.folklore
    ]


@click.command()
@click.argument("name", shell_complete=complete_name)
@finding_option
@number_option
@click.option("--server", metavar="ADDR:PORT", help="Without a finding: what clients ask.")
@click.option("--client", metavar="ADDR[:PORT]|NET", help="Without a finding: who asks.")
@click.option("--actual", metavar="ADDR", help="Without a finding: the address that answers.")
@click.option("--dry-run", is_flag=True, help="Print the commands; change nothing.")
@places
@json_option
def apply(
    name: str,
    file: str | None,
    number: int | None,
    server: str | None,
    client: str | None,
    actual: str | None,
    dry_run: bool,
    as_json: bool,
    **place: Any,
) -> int:
    """Apply the fix NAME to this host, and ask the kernel whether it does what it should.

    What fails half way is taken back; `udpkit fix undo` takes back the rest. Fixes for a program's
    configuration are printed. `udpkit fix advise` tells which to choose, `udpkit read`, `watch` and `check`
    name them with each finding.

    \b
    Exit codes: 0 done, or so already · 1 the kernel refuses, or does not do it: nothing is changed
                2 no such fix, or a finding that it does not fit · 5 no privilege, or a program is missing
    """
    fix = fix_called(name)
    if file is None and number is not None:
        raise click.UsageError("--number is about the findings of --finding")
    if file is not None and (server or client or actual):
        raise click.UsageError("--finding excludes --server, --client and --actual")
    with understood():
        if file is not None:
            candidates = fitting(read_findings(file), fix, number)
        else:
            from udpkit.fixes.untrusted import new_finding

            code = min(fix.codes)
            candidates = {1: new_finding(code, server, client, actual)}
        namespace = choose(place["netns"], place["pid"], place["container"])
        if not fix.commands:
            return show_advice(name, fix, next(iter(candidates.values())), as_json=as_json)
        if not dry_run:
            require_privilege("; --dry-run prints what to do")
        return inside(
            namespace,
            lambda: _apply(name, fix, candidates, namespace, dry_run=dry_run, as_json=as_json),
        )


def _apply(
    name: str,
    fix: Fix,
    candidates: Mapping[int, Finding],
    namespace: Namespace,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    from udpkit.fixes import applying, fill, records

    finding = one_of(fix, candidates)
    made = applying.plan(name, fix, finding)
    tradeoff = fill(fix.tradeoff, fix.placeholders(finding))
    left = [step for step in made.steps if step not in made.done]
    lines = [step.command for step in left]
    if not left:
        say("there is nothing to do: the kernel does it already")
        return tell(name, "there already", lines, as_json=as_json)
    if dry_run:
        tell(name, "not applied", lines + [f"{line} || :" for line in made.settle], as_json=as_json)
        say(f"nothing is changed; the trade-off: {tradeoff}")
        return OK
    if not as_json:
        tell(name, "applied", lines, as_json=False)
    with records.locked():
        record = applying.apply(made, namespace.name)
    if as_json:
        tell(name, "applied", lines, as_json=True)
    if made.settle and not find("conntrack"):
        say("conntrack(8) is not installed: flows that exist follow when their entries end, in minutes")
    said = (f"`{step.asks}`" + (f" says {told}" if (told := applying.answer(step)) else "") for step in left)
    say(f"applied, and confirmed by the kernel: {'; '.join(said)}")
    say(f"the trade-off: {tradeoff}")
    say(f"take it back with udpkit fix undo {name}" if record else "there is no undo for this")
    return OK


def tell(name: str, result: str, lines: Sequence[str], *, as_json: bool, changed: Sequence[str] = ()) -> int:
    """What was run, or is to be: shell lines, or a document."""
    if as_json:
        from udpkit.report.host_fixes import outcome

        click.echo(json.dumps(outcome(name, result, lines, changed), indent=2))
    else:
        for line in lines:
            click.echo(line)
    return OK


def one_of(fix: Fix, candidates: Mapping[int, Finding]) -> Finding:
    """One that stands for all, since they lead to the same commands. Raises Failure."""
    from udpkit.fixes import fill

    different: dict[str, int] = {}
    for number, finding in candidates.items():
        with suppress(KeyError):  # it lacks something
            words = fix.placeholders(finding)
            different.setdefault(json.dumps([fill(line, words) for line in fix.commands]), number)
    numbers = list(different.values()) or [min(candidates)]
    if len(numbers) == 1:
        return candidates[numbers[0]]
    chosen = [(number, candidates[number]) for number in numbers[:MOST_SHOWN]]
    shown = "; ".join(f"{number}: {one.client} → {one.server}" for number, one in chosen)
    more = "; …" if len(numbers) > MOST_SHOWN else ""
    raise Failure(f"{len(numbers)} findings fit, say which with --number: {shown}{more}", USAGE)


@click.command()
@click.argument("name", required=False, shell_complete=complete_name)
@places
@json_option
def verify(name: str | None, as_json: bool, **place: Any) -> int:
    """Ask the kernel whether the fixes that were applied to this host are in place; list them.

    \b
    Exit codes: 0 all are · 1 one is not · 2 no such fix · 5 no privilege
    """
    if name:
        fix_called(name)
    with understood():
        namespace = choose(place["netns"], place["pid"], place["container"])
        return inside(namespace, lambda: _verify(name, as_json=as_json))


def _verify(name: str | None, *, as_json: bool) -> int:
    from udpkit.fixes import applying, records
    from udpkit.report.host_fixes import document, show

    found = [one for one in records.read(records.namespace_key()) if name in (None, one.fix)]
    told = [(one, [step for step in one.steps if not applying.in_place(step)]) for one in found]
    if as_json:
        click.echo(json.dumps(document(told), indent=2))
    else:
        show(told)
    return FINDINGS if any(missing for _, missing in told) else OK


@click.command()
@click.argument("name", shell_complete=complete_name)
@click.option("--all", "every", is_flag=True, help="All that were applied under this name.")
@click.option("--forget", is_flag=True, help="Change nothing; only forget that it was applied.")
@click.option("--dry-run", is_flag=True, help="Print the commands; change nothing.")
@click.option("--server", metavar="ADDR", help="The one that names this address.")
@click.option("--client", metavar="ADDR|NET", help="The one that names this client.")
@places
@json_option
def undo(
    name: str,
    every: bool,
    forget: bool,
    dry_run: bool,
    server: str | None,
    client: str | None,
    as_json: bool,
    **place: Any,
) -> int:
    """Take back the fix NAME that was applied to this host.

    \b
    Exit codes: 0 done · 1 it is not applied, or cannot be taken back
                2 no such fix, or it was applied several times · 5 no privilege
    """
    fix = fix_called(name)
    if not fix.undo:
        raise Failure(f"{name} has no undo{'' if fix.commands else ': it is printed, never applied'}", USAGE)
    with understood():
        namespace = choose(place["netns"], place["pid"], place["container"])
        require_privilege()
        words = [word for word in (server, client) if word]
        return inside(
            namespace,
            lambda: _undo(name, words, every=every, only_forget=forget, dry_run=dry_run, as_json=as_json),
        )


def _undo(
    name: str, words: Sequence[str], *, every: bool, only_forget: bool, dry_run: bool, as_json: bool
) -> int:
    from udpkit.fixes import applying, records

    with records.locked():
        found: list[Record] = [
            one
            for one in records.read(records.namespace_key())
            if one.fix == name and all(one.names(word) for word in words)
        ]
        if not found:
            raise Failure(f"{name} is not applied here", FINDINGS)
        if len(found) > 1 and not every:
            shown = "; ".join(one.about for one in found[:MOST_SHOWN])
            raise Failure(f"{name} is applied {len(found)} times, say --all or which: {shown}", USAGE)
        lines = [step.undo for record in reversed(found) for step in reversed(record.steps)]
        if not as_json:
            tell(name, "undone", lines, as_json=False)
        left: list[str] = []
        for record in () if dry_run else reversed(found):
            if only_forget:
                records.forget(record)
            else:
                left += applying.undo(record)
    if as_json:
        result = "not undone" if dry_run or left else "forgotten" if only_forget else "undone"
        tell(name, result, lines, as_json=True, changed=left)
    if left:
        raise Failure(f"{'; '.join(left)}: somebody has changed it since; see --forget", FINDINGS)
    return OK


def fix_called(name: str) -> Fix:
    from udpkit.fixes import FIXES

    fix = FIXES.get(name)
    if fix is None:
        names = ", ".join(one for one, other in FIXES.items() if other.commands and not other.folklore)
        raise click.UsageError(f"there is no fix {name[:40]}; there are {names}")
    if fix.folklore:
        raise Failure(f"{name} is folklore: {fix.tradeoff}", USAGE)
    return fix


def read_findings(file: str) -> list[Finding]:
    """Raises Failure, BadFinding."""
    from udpkit.fixes.untrusted import LARGEST, findings_of

    try:
        if file == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(LARGEST + 1)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", USAGE) from error
    return findings_of(data)


def fitting(findings: Sequence[Finding], fix: Fix, number: int | None) -> dict[int, Finding]:
    """Those that the fix is for, by their numbers. Raises Failure."""
    if number is not None and number > len(findings):
        raise Failure(f"--number {number}: there are {len(findings)} findings", USAGE)
    chosen = {
        place: finding
        for place, finding in enumerate(findings, 1)
        if number in (None, place) and fix.is_for(finding)
    }
    if not chosen:
        raise Failure(f"no finding that this fix is for: it is against {', '.join(sorted(fix.codes))}", USAGE)
    return chosen


def show_advice(name: str, fix: Fix, finding: Finding, *, as_json: bool) -> int:
    """What a person has to do."""
    from udpkit.facts.text import in_one_line

    offer = fix.offer(name, finding)
    if offer is None:
        raise Failure("the finding does not tell the address or the port that this fix is about", USAGE)
    tell(name, "not applied", [in_one_line(offer.command)], as_json=as_json)
    say(f"this is yours to do: nothing is changed; the trade-off: {offer.tradeoff}")
    return OK


def require_privilege(instead: str = "") -> None:
    if privilege.lacking("CAP_NET_ADMIN"):
        raise Failure(f"changing this host takes root (CAP_NET_ADMIN){instead}", MISSING)


@contextmanager
def understood() -> Iterator[None]:
    """What can go wrong, as one line. Raises Failure."""
    from udpkit.evidence.routes import NoIp
    from udpkit.fixes.applying import Failed, Missing
    from udpkit.fixes.untrusted import BadFinding

    try:
        yield
    except BadFinding as error:
        raise Failure(str(error), USAGE) from error
    except (Missing, NoIp) as error:
        raise Failure(str(error), MISSING) from error
    except Failed as error:
        forbidden = os.geteuid() != 0 and "ermi" in str(error)
        raise Failure(str(error), MISSING if forbidden else FINDINGS) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_look(error, error.filename or "") from error
