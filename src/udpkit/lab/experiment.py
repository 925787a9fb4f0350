"""What an experiment file says. Unknown keys, names and placeholders are errors."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_interface
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from udpkit.diagnosis import RULES
from udpkit.facts.text import in_one_line
from udpkit.fixes import EXCHANGES, FIXES, fill
from udpkit.fixes.fix import PLACEHOLDER
from udpkit.lab.errors import BadExperiment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("experiments")

NAMES = {"host": re.compile(r"[\w-]+", re.ASCII), "interface": re.compile(r"[\w-]{1,15}", re.ASCII)}
"""What may be called how: the kernel's limit for interfaces, less what has a meaning in `host.interface`."""

Port = Annotated[int, Meta(ge=1, le=65535)]


class Interface(Struct, forbid_unknown_fields=True):
    """A network interface. Without `link` it leads to a network where nobody is."""

    kind: Literal["cable", "bridge"] = "cable"
    addresses: list[str] = []
    link: str | None = None
    """`host.interface` at the other end of the cable; a bridge there gets a port."""


class HostPlan(Struct, forbid_unknown_fields=True):
    """A host. `routes` and `rules` are in the words of ip(8), `commands` are shell lines (iptables, nft)."""

    interfaces: dict[str, Interface] = {}
    routes: list[str] = []
    rules: list[str] = []
    sysctls: dict[str, int | str] = {}
    commands: list[str] = []


class ProgramPlan(Struct, forbid_unknown_fields=True):
    """A program: on which host, and its command line."""

    on: str
    run: str


class Start(Struct, forbid_unknown_fields=True, tag_field="do", tag="start"):
    """Start a program; with `port`, wait until something on its host has that port open."""

    program: str
    port: Port | None = None


class Say(Struct, forbid_unknown_fields=True, tag_field="do", tag="say"):
    """Type a line into one program, and wait until another prints it, or it is refused or lost."""

    by: str
    to: str
    text: str
    heard: bool = True


class Sockets(Struct, forbid_unknown_fields=True, tag_field="do", tag="sockets"):
    """Look at a host's UDP sockets. `expect` has a pattern for each: `0.0.0.0:53 unconnected`,
    `172.17.0.1:53 connected to 172.17.0.3:*`."""

    on: str
    expect: list[str]


class End(Struct, forbid_unknown_fields=True, tag_field="do", tag="end"):
    """Wait until a program has ended by itself."""

    program: str


class Command(Struct, forbid_unknown_fields=True, tag_field="do", tag="command"):
    """Run a shell line on a host, and wait until it has ended well."""

    on: str
    run: str


Step = Start | Say | Sockets | End | Command


class ExpectedFinding(Struct, forbid_unknown_fields=True):
    """A finding; the addresses are patterns (`172.17.0.3:*`)."""

    code: str
    severity: Literal["error", "warning", "note"] = "error"
    client: str = "*"
    server: str = "*"
    actual: str = "*"


class Expect(Struct, forbid_unknown_fields=True):
    """What must be seen: patterns for each datagram and ICMP error, and every finding, in any order."""

    sequence: list[str]
    findings: list[ExpectedFinding]


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
    """One experiment. `values` are what `{name}` stands for in its other strings."""

    title: str
    question: str
    hosts: dict[str, HostPlan]
    programs: dict[str, ProgramPlan]
    capture: list[str]
    steps: list[Step]
    expect: Expect
    values: dict[str, str | int] = {}
    fixes: FixesPlan | None = None
    name: str = field(default="")


def built_in() -> dict[str, Path]:
    """The experiments that come with udpkit, by name."""
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.toml"))}


def load(path: Path, values: Mapping[str, str | int] | None = None) -> Experiment:
    """Read an experiment file; `values` override those of the file. Raises BadExperiment, and OSError."""
    try:
        return parse(path.stem, path.read_text(encoding="utf-8"), values or {})
    except (UnicodeDecodeError, BadExperiment) as error:
        raise BadExperiment(f"{path}: {error}") from error


def parse(name: str, text: str, values: Mapping[str, str | int]) -> Experiment:
    """An experiment from a file's text. Raises BadExperiment with one line."""
    try:
        experiment = _convert(name, tomllib.loads(text), values)
        _check_names(experiment)
        _check_addresses(experiment)
        _check_lines(experiment)
    except RecursionError as error:
        raise BadExperiment("it is nested too deeply") from error
    except (BadExperiment, msgspec.ValidationError, ValueError) as error:  # tomllib's errors are ValueErrors
        raise BadExperiment(in_one_line(str(error))) from error
    return experiment


def _convert(name: str, tree: dict[str, Any], values: Mapping[str, str | int]) -> Experiment:
    known = tree.get("values", {})
    if not isinstance(known, dict):
        raise BadExperiment("values is not a table")
    for key, value in known.items():
        if not PLACEHOLDER.fullmatch(f"{{{key}}}"):
            raise BadExperiment(f"[values] {key}: a placeholder's name has small letters, digits and _")
        if type(value) not in (str, int):
            raise BadExperiment(f"[values] {key} is neither text nor a whole number")
    if unknown := values.keys() - known:
        raise BadExperiment(f"it has no value called {unknown.pop()}; it has: {', '.join(known) or 'none'}")
    if "name" in tree:
        raise BadExperiment("Object contains unknown field `name`: the file's name is the experiment's")
    known |= values
    try:
        filled = {key: _filled(branch, known) if key != "values" else known for key, branch in tree.items()}
    except KeyError as error:
        raise BadExperiment(f"[values] does not have {error}") from error
    # Not strict: a placeholder that stands for a number is still text.
    return msgspec.convert({**filled, "name": name}, Experiment, strict=False)


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
    used: list[tuple[str, str, Collection[str]]] = [
        ("host", program.on, hosts) for program in programs.values()
    ]
    used += [("interface", name, wires) for name in [*experiment.capture, *far_ends]]
    started: list[str] = []
    for step in experiment.steps:
        match step:
            case Start(program):
                used.append(("program", program, programs))
                started.append(program)
            case End(program):
                used.append(("started program", program, [*started]))
            case Say(by, to):
                used += [("started program", name, [*started]) for name in (by, to)]
            case Sockets(on) | Command(on):
                used.append(("host", on, hosts))
    used += [("finding", finding.code, RULES) for finding in experiment.expect.findings]
    if plan := experiment.fixes:
        used += [("program", name, programs) for name in (plan.server, plan.client)]
        used += [("fix", name, {"none", *FIXES}) for name in plan.expect]
        used += [
            ("exchange", name, EXCHANGES) for by_exchange in plan.expect.values() for name in by_exchange
        ]
        used.append(("exchange", plan.exchange, EXCHANGES))
    for kind, name, known in used:
        if name not in known:
            there_is = ", ".join(sorted(known)) or "none"
            raise BadExperiment(f"there is no {kind} called {name}; there is: {there_is}")
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
            for address in interface.addresses:
                try:
                    ip_interface(address)
                except ValueError as error:
                    raise BadExperiment(f"{host}.{name}: {error}") from error
                if "/" not in address:
                    raise BadExperiment(f"{host}.{name}: {address} lacks its prefix, such as {address}/24")


def _lines(experiment: Experiment) -> Iterator[tuple[str, bool]]:
    """Every command line, or part of one, and whether a shell gets it whole."""
    for program in experiment.programs.values():
        yield program.run, False
    for plan in experiment.hosts.values():
        yield from ((line, False) for line in [*plan.routes, *plan.rules])
        yield from ((line, True) for line in plan.commands)
    yield from ((step.run, True) for step in experiment.steps if isinstance(step, Command))
