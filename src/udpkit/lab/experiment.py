"""What an experiment file says. Unknown keys, names and placeholders are errors."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_interface
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from udpkit.diagnosis import RULES
from udpkit.facts.text import in_one_line
from udpkit.fixes import EXCHANGES, FIXES, fill
from udpkit.fixes.fix import PLACEHOLDER
from udpkit.lab import impossible
from udpkit.lab.addresses import Addresses
from udpkit.lab.errors import BadExperiment
from udpkit.lab.names import near_or_all

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("experiments")

NAMES = {"host": re.compile(r"[\w-]+", re.ASCII), "interface": re.compile(r"[\w-]{1,15}", re.ASCII)}
"""What may be called how: the kernel's limit for interfaces, less what has a meaning in `host.interface`."""

WORD = re.compile(r"[^\w.-]+", re.ASCII)
"""What is between the words of a shell line."""

Port = Annotated[int, Meta(ge=1, le=65535)]

OWN = {"name", "case"}
"""Fields of an experiment that its file does not say."""
UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)

Fate = Literal["heard", "refused", "lost"]
"""What became of a line: printed by the other program, refused with an ICMP error, or neither."""


class Interface(Struct, forbid_unknown_fields=True):
    """A network interface. Without `link` a cable leads to a network where nobody is."""

    kind: Literal["cable", "bridge", "macvlan"] = "cable"
    addresses: list[str] = []
    link: str | None = None
    """`host.interface` at the other end of the cable; a bridge there gets a port. A macvlan's parent."""


class DockerPlan(Struct, forbid_unknown_fields=True):
    """A Docker engine: the programs of this machine that its image `lab` has, and options of dockerd(8)."""

    programs: list[str]
    options: str = ""


class HostPlan(Struct, forbid_unknown_fields=True):
    """A host. `routes` and `rules` are in the words of ip(8), `commands` are shell lines (iptables, nft)."""

    interfaces: dict[str, Interface] = {}
    routes: list[str] = []
    rules: list[str] = []
    sysctls: dict[str, int | str] = {}
    commands: list[str] = []
    docker: DockerPlan | None = None


class ProgramPlan(Struct, forbid_unknown_fields=True):
    """A program: on which host, its command line, and whether strace watches its UDP sockets."""

    on: str
    run: str
    trace: bool = False


class Start(Struct, forbid_unknown_fields=True, tag_field="do", tag="start"):
    """Start a program; with `port`, wait until something on its host has that port open."""

    program: str
    port: Port | None = None


class Say(Struct, forbid_unknown_fields=True, tag_field="do", tag="say"):
    """Type a line into one program, and wait until another prints it, or it is refused or lost."""

    by: str
    to: str
    text: str
    fate: Fate = "heard"
    column: str = ""


class Type(Struct, forbid_unknown_fields=True, tag_field="do", tag="type"):
    """Type a line into a program."""

    program: str
    text: str


class Prints(Struct, forbid_unknown_fields=True, tag_field="do", tag="prints"):
    """Wait until a program prints a line that fits a pattern, after those that earlier such steps found."""

    program: str
    text: str
    column: str = ""


class Sockets(Struct, forbid_unknown_fields=True, tag_field="do", tag="sockets"):
    """Look at a host's UDP sockets. `expect` has a pattern for each: `0.0.0.0:53 unconnected`,
    `172.17.0.1:53 connected to 172.17.0.3:*`."""

    on: str
    expect: list[str]


class End(Struct, forbid_unknown_fields=True, tag_field="do", tag="end"):
    """Wait until a program has ended by itself."""

    program: str


class Stop(Struct, forbid_unknown_fields=True, tag_field="do", tag="stop"):
    """Send a program a signal, and wait until it has ended. It can be started again."""

    program: str
    signal: Literal["TERM", "KILL", "INT"] = "TERM"


class Command(Struct, forbid_unknown_fields=True, tag_field="do", tag="command"):
    """Run a shell line on a host to its end. `prints`: patterns of lines that it prints, in order."""

    on: str
    run: str
    prints: list[str] = []
    status: int = 0
    column: str = ""


Step = Start | Say | Type | Prints | Sockets | End | Stop | Command


STEPS: dict[str, type[Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in (Start, Say, Type, Prints, Sockets, End, Stop, Command)
}


class ExpectedFinding(Struct, forbid_unknown_fields=True):
    """A finding; the addresses are patterns (`172.17.0.3:*`)."""

    code: str
    severity: Literal["error", "warning", "note"] = "error"
    client: str = "*"
    server: str = "*"
    actual: str = "*"


class Expect(Struct, forbid_unknown_fields=True):
    """What must be seen: patterns for each datagram and ICMP error, and every finding, in any order.

    `calls` has for traced programs patterns of some of their system calls on UDP sockets, in order.
    """

    sequence: list[str]
    findings: list[ExpectedFinding]
    calls: dict[str, list[str]] = {}


Outcome = Literal["works", "fails"]


class FixesPlan(Struct, forbid_unknown_fields=True):
    """Which fixes are tried, and how each must fare in each exchange.

    `server` and `client` name the programs whose places the exchanges' programs take. `exchange` is the one
    that the experiment's own programs are.
    """

    server: str
    client: str
    exchange: str
    expect: dict[str, dict[str, Outcome]]


class Experiment(Struct, forbid_unknown_fields=True):
    """One experiment. `values` are what `{name}` stands for in its other strings.

    `claim` is what articles say, `answer` what was seen; `twin` is the experiment where the fault is not
    there, or where it is. Of a file with `cases`, each is an experiment of its own, called `FILE:CASE`, with
    these values instead; the steps that have a `column` are the cells of a table with a row for each. `needs`
    are shell lines that succeed where the kernel has what the key names.
    """

    title: str
    question: str
    hosts: dict[str, HostPlan]
    programs: dict[str, ProgramPlan]
    capture: list[str]
    steps: list[Step]
    expect: Expect
    values: dict[str, str | int] = {}
    cases: dict[str, dict[str, str | int]] = {}
    claim: str = ""
    answer: str = ""
    twin: str = ""
    needs: dict[str, str] = {}
    fixes: FixesPlan | None = None
    name: str = ""
    case: str = ""

    @property
    def file(self) -> str:
        """The name without its case."""
        return self.name.removesuffix(f":{self.case}") if self.case else self.name


def built_in() -> dict[str, Path]:
    """The experiments that come with udpkit, by name; the folder of each is its chapter."""
    return {path.stem: path for path in sorted(BUILT_IN.glob("*/*.toml"))}


def load_all(path: Path, values: Mapping[str, str | int] | None = None) -> list[Experiment]:
    """An experiment for each case of a file, or the one that it is. Raises as `load`."""
    first = load(path, values)
    return [load(path, values, case) for case in first.cases] or [first]


def load(path: Path, values: Mapping[str, str | int] | None = None, case: str = "") -> Experiment:
    """Read an experiment file; `values` override those of the file. Raises BadExperiment, and OSError."""
    try:
        return parse(path.stem, path.read_text(encoding="utf-8"), values or {}, case)
    except (UnicodeDecodeError, BadExperiment) as error:
        raise BadExperiment(f"{path}: {error}") from error


def parse(name: str, text: str, values: Mapping[str, str | int], case: str = "") -> Experiment:
    """An experiment from a file's text, with the values of one of its cases.

    Raises BadExperiment with one line.
    """
    try:
        experiment = _convert(name, tomllib.loads(text), values, case)
        _check_names(experiment)
        _check_cables(experiment)
        _check_addresses(experiment)
        _check_lines(experiment)
        _check_steps(experiment)
        if case or not experiment.cases:  # else it is not what runs: its cases fill in its values
            _check_patterns(experiment)
    except RecursionError as error:
        raise BadExperiment("it is nested too deeply") from error
    except (BadExperiment, msgspec.ValidationError, ValueError) as error:  # tomllib's errors are ValueErrors
        raise BadExperiment(in_one_line(str(error))) from error
    return experiment


def _convert(name: str, tree: dict[str, Any], values: Mapping[str, str | int], case: str) -> Experiment:
    known, cases = _values(tree.get("values", {}), "values"), tree.get("cases", {})
    if not isinstance(cases, dict):
        raise BadExperiment("cases is not a table")
    if case and case not in cases:
        raise BadExperiment(f"it has no case called {case}; it has: {', '.join(cases) or 'none'}")
    for one, its_own in cases.items():
        _refuse_unknown(_values(its_own, f"cases.{one}"), known)
    _refuse_unknown(values, known)
    if case:
        name, known = f"{name}:{case}", known | cases[case]
    if own := OWN & tree.keys():
        raise BadExperiment(
            f"unknown field `{own.pop()}`: the file's name is the experiment's, and [cases] has cases"
        )
    known |= values
    try:
        filled = {
            key: _filled(branch, known) for key, branch in tree.items() if key not in ("values", "cases")
        }
        filled |= {"values": known, "cases": cases}
    except KeyError as error:
        raise BadExperiment(f"[values] does not have {error}") from error
    _check_parts(filled)
    try:  # not strict: a placeholder that stands for a number is still text
        return msgspec.convert({**filled, "name": name, "case": case}, Experiment, strict=False)
    except msgspec.ValidationError as error:
        raise BadExperiment(f"{error}{_near_field(error, Experiment)}") from error


def _check_parts(tree: Mapping[str, Any]) -> None:
    """What has a name or a number is blamed by it; msgspec itself says `hosts[...]`, and counts from 0."""
    parts: list[tuple[str, dict[str, Any], type[Struct]]] = []
    for host, plan in _tables(tree.get("hosts")):
        interfaces = _tables(plan.get("interfaces"))
        parts += [(f"hosts.{host}.interfaces.{name}", part, Interface) for name, part in interfaces]
        parts.append((f"hosts.{host}", plan, HostPlan))
    parts += [(f"programs.{name}", plan, ProgramPlan) for name, plan in _tables(tree.get("programs"))]
    for step, part in _tables(_numbered("step", tree.get("steps"))):
        if (do := str(part.get("do", ""))) not in STEPS:
            raise BadExperiment(f"{step}: do = “{do}” is no step: {near_or_all(do, STEPS)}")
        parts.append((step, part, STEPS[do]))
    for _, expect in _tables({"": tree.get("expect")}):
        findings = _tables(_numbered("expect.findings, number", expect.get("findings")))
        parts += [(finding, part, ExpectedFinding) for finding, part in findings]
        parts.append(("expect", expect, Expect))
    for where, part, kind in parts:
        try:
            msgspec.convert(part, kind, strict=False)
        except msgspec.ValidationError as error:
            raise BadExperiment(f"{where}: {error}{_near_field(error, kind)}") from error


def _near_field(error: msgspec.ValidationError, kind: type[Struct]) -> str:
    """What an unknown field may be meant to be."""
    unknown = UNKNOWN_FIELD.fullmatch(str(error))
    return f": {near_or_all(unknown[1], {*kind.__struct_fields__} - OWN)}" if unknown else ""


def _numbered(what: str, branch: Any) -> dict[str, Any]:
    """The elements of a list by their numbers, as people count."""
    return {
        f"{what} {number}": part for number, part in enumerate(branch if isinstance(branch, list) else (), 1)
    }


def _tables(branch: Any) -> list[tuple[str, dict[str, Any]]]:
    """The tables of a table, by name; what else there is is refused later."""
    named = branch.items() if isinstance(branch, dict) else ()
    return [(name, part) for name, part in named if isinstance(part, dict)]


def _values(table: Any, where: str) -> dict[str, str | int]:
    if not isinstance(table, dict):
        raise BadExperiment(f"{where} is not a table")
    for key, value in table.items():
        if not PLACEHOLDER.fullmatch(f"{{{key}}}"):
            raise BadExperiment(f"[{where}] {key}: a placeholder's name has small letters, digits and _")
        if type(value) not in (str, int):
            raise BadExperiment(f"[{where}] {key} is neither text nor a whole number")
    return table


def _refuse_unknown(values: Mapping[str, object], known: Mapping[str, object]) -> None:
    if unknown := values.keys() - known:
        raise BadExperiment(f"it has no value called {unknown.pop()}; it has: {', '.join(known) or 'none'}")


def _filled(branch: Any, values: Mapping[str, object]) -> Any:
    if isinstance(branch, str):
        return fill(branch, values)
    if isinstance(branch, dict):
        return {fill(key, values): _filled(value, values) for key, value in branch.items()}
    if isinstance(branch, list):
        return [_filled(value, values) for value in branch]
    return branch


def _check_names(experiment: Experiment) -> None:
    """What is called by a name must exist, or have been started; new names must be fit to be called by."""
    hosts, programs = experiment.hosts, experiment.programs
    wires = [f"{host}.{interface}" for host, plan in hosts.items() for interface in plan.interfaces]
    far_ends = [
        interface.link for plan in hosts.values() for interface in plan.interfaces.values() if interface.link
    ]
    used: list[tuple[str, str, str, Collection[str]]] = [
        (f"programs.{name}.on", "host", program.on, hosts) for name, program in programs.items()
    ]
    loopbacks = [f"{host}.lo" for host in hosts]  # every host has one (errors about its own datagrams)
    bridges = [f"{host}.docker0" for host, plan in hosts.items() if plan.docker]  # their engines make them
    made = {
        f"{host}.{word}"
        for host, plan in hosts.items()
        for line in plan.commands
        for word in re.split(WORD, line)
    }
    used += [("link", "interface", name, wires) for name in far_ends]
    used += [
        ("capture", "interface", name, [*wires, *loopbacks, *bridges])
        for name in experiment.capture
        if name not in made  # `ip link add tunnel …`
    ]
    started: list[str] = []
    for number, step in enumerate(experiment.steps, start=1):
        where = f"step {number}"
        match step:
            case Start(program):
                used.append((where, "program", program, programs))
                started.append(program)
            case End(program) | Stop(program) | Prints(program) | Type(program):
                used.append((where, "started program", program, [*started]))
            case Say(by, to):
                used += [(where, "started program", name, [*started]) for name in (by, to)]
            case Sockets(on) | Command(on):
                used.append((where, "host", on, hosts))
    used += [("expect.findings", "finding", finding.code, RULES) for finding in experiment.expect.findings]
    traced = [name for name, program in programs.items() if program.trace]
    used += [("expect.calls", "traced program", name, traced) for name in experiment.expect.calls]
    if plan := experiment.fixes:
        used += [("fixes", "program", name, programs) for name in (plan.server, plan.client)]
        used += [("fixes.expect", "fix", name, {"none", *FIXES}) for name in plan.expect]
        used += [
            (f"fixes.expect.{fix}", "exchange", name, EXCHANGES)
            for fix, by_exchange in plan.expect.items()
            for name in by_exchange
        ]
        used.append(("fixes", "exchange", plan.exchange, EXCHANGES))
    for where, kind, name, known in used:
        if name not in known:
            raise BadExperiment(f"{where}: there is no {kind} called {name}: {near_or_all(name, known)}")
    if cut_short := [end for end in far_ends if "." not in end]:
        raise BadExperiment(f"link “{cut_short[0]}” does not say host.interface")
    new = [("host", name) for name in hosts]
    new += [("interface", wire.partition(".")[2]) for wire in [*wires, *far_ends]]
    for kind, name in new:
        if not NAMES[kind].fullmatch(name):
            raise BadExperiment(
                f"{kind} “{name}”: its name has letters, digits, - and _ (interfaces: 1 to 15)"
            )


def _check_lines(experiment: Experiment) -> None:
    """What is split into words must end its quotes; no argument can hold a NUL (execve(2))."""
    for name, program in experiment.programs.items():
        if not program.run.strip():
            raise BadExperiment(f"program {name} has no command line")
    for line, for_shell in _lines(experiment):
        try:
            if "\0" in line:
                raise ValueError("a command line cannot hold a NUL")
            if not for_shell:
                shlex.split(line)
        except ValueError as error:
            raise BadExperiment(f"“{line}”: {error}") from error


def _check_addresses(experiment: Experiment) -> None:
    for host, plan in experiment.hosts.items():
        for name, interface in plan.interfaces.items():
            if interface.kind == "macvlan" and not interface.link:
                raise BadExperiment(f"{host}.{name}: a macvlan's link names its parent, host.interface")
            if again := [one for one in interface.addresses if interface.addresses.count(one) > 1]:
                raise BadExperiment(f"{host}.{name}: {again[0]} is there twice")
            for address in interface.addresses:
                try:
                    ip_interface(address)
                except ValueError as error:
                    raise BadExperiment(f"{host}.{name}: {error}") from error
                if "/" not in address:
                    raise BadExperiment(f"{host}.{name}: {address} lacks its prefix, such as {address}/24")


def _check_steps(experiment: Experiment) -> None:
    for number, step in enumerate(experiment.steps, start=1):
        if not experiment.cases and (column := getattr(step, "column", "")):
            raise BadExperiment(f"step {number}, column “{column}”: only a file with [cases] has a table")
        if isinstance(step, Say) and step.fate == "heard":
            name, *flags = shlex.split(experiment.programs[step.to].run)
            if name == "talk" and "--who" in flags and not {"--connect", "--tcp"} & {*flags}:
                how = "“say” waits for the line alone; take “type” and “prints”"
                raise BadExperiment(f"step {number}: {step.to} prints its lines with --who: {how}")


def _check_patterns(experiment: Experiment) -> None:
    """What no line can fit would only ever be “not seen”."""
    for where, pattern, wrong in _judged(experiment):
        if wrong:
            raise BadExperiment(f"{where}: “{pattern}”: {wrong}")


def _judged(experiment: Experiment) -> Iterator[tuple[str, str, str | None]]:
    """Every pattern: where it stands, and why nothing can fit it."""
    hosts = _hosts(experiment)
    for number, pattern in enumerate(experiment.expect.sequence, start=1):
        yield f"expect.sequence, pattern {number}", pattern, hosts.message(pattern)
    for number, finding in enumerate(experiment.expect.findings, start=1):
        for key, pattern in (
            ("client", finding.client),
            ("server", finding.server),
            ("actual", finding.actual),
        ):
            wrong = None if pattern == "None" else hosts.endpoint(pattern)
            yield f"expect.findings, number {number}, {key}", pattern, wrong
    for name, patterns in experiment.expect.calls.items():
        for number, pattern in enumerate(patterns, start=1):
            yield f"expect.calls.{name}, pattern {number}", pattern, impossible.call(pattern)
    for number, step in enumerate(experiment.steps, start=1):
        match step:
            case Sockets():
                for pattern in step.expect:
                    yield f"step {number}, expect", pattern, hosts.socket(pattern)
            case Command():
                for pattern in step.prints:
                    yield f"step {number}, prints", pattern, impossible.printed(pattern)
            case Prints():
                wrong = impossible.printed(step.text)
                if experiment.programs[step.program].run.startswith("talk "):
                    wrong = wrong or impossible.told(step.text)
                yield f"step {number}, text", step.text, wrong


def _hosts(experiment: Experiment) -> impossible.Hosts:
    by_name = {
        name: [address.partition("/")[0] for one in plan.interfaces.values() for address in one.addresses]
        for name, plan in experiment.hosts.items()
    }
    interfaces = [
        address
        for plan in experiment.hosts.values()
        for one in plan.interfaces.values()
        for address in one.addresses
    ]
    typed = [step.text for step in experiment.steps if isinstance(step, Say | Type)]
    lines = [*(line for line, _ in _lines(experiment)), *typed]
    engines = any(plan.docker for plan in experiment.hosts.values())
    return impossible.Hosts(Addresses.of(interfaces, lines, engines=engines), by_name)


def _check_cables(experiment: Experiment) -> None:
    """Only one of the two ends says so; a bridge has a port for each cable."""
    kinds = {
        f"{host}.{name}": interface.kind
        for host, plan in experiment.hosts.items()
        for name, interface in plan.interfaces.items()
    }
    ends = [
        end
        for host, plan in experiment.hosts.items()
        for name, interface in plan.interfaces.items()
        if interface.link and interface.kind != "macvlan"
        for end in (f"{host}.{name}", interface.link)
        if kinds[end] == "cable"
    ]
    for end, count in Counter(ends).items():
        if count > 1:
            raise BadExperiment(f"{end} is the end of {count} cables; only one end of a cable has a link")


def _lines(experiment: Experiment) -> Iterator[tuple[str, bool]]:
    """Every command line, or part of one, and whether a shell gets it whole."""
    for program in experiment.programs.values():
        yield program.run, False
    for plan in experiment.hosts.values():
        yield from ((line, False) for line in [*plan.routes, *plan.rules])
        yield from ((line, True) for line in plan.commands)
        if plan.docker:
            yield plan.docker.options, False
            yield from ((program, False) for program in plan.docker.programs)
    yield from ((step.run, True) for step in experiment.steps if isinstance(step, Command))
    yield from ((line, True) for line in experiment.needs.values())
