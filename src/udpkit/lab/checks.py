"""What can be known to be wrong with an experiment before it runs."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator
from ipaddress import ip_interface

from udpkit.diagnosis import RULES
from udpkit.fixes import EXCHANGES, FIXES
from udpkit.lab import impossible
from udpkit.lab.addresses import Addresses
from udpkit.lab.errors import BadExperiment
from udpkit.lab.experiment import Command, End, Experiment, Prints, Say, Sockets, Start, Stop, Type
from udpkit.lab.names import near_or_all

NAMES = {"host": re.compile(r"[\w-]+", re.ASCII), "interface": re.compile(r"[\w-]{1,15}", re.ASCII)}
"""What may be called how: the kernel's limit for interfaces, less what has a meaning in `host.interface`."""

WORD = re.compile(r"[^\w.-]+", re.ASCII)
"""What is between the words of a shell line."""


def check(experiment: Experiment) -> None:
    """Raises BadExperiment for the first thing that is wrong with it."""
    _check_names(experiment)
    _check_cables(experiment)
    _check_addresses(experiment)
    _check_lines(experiment)
    _check_steps(experiment)
    if experiment.case or not experiment.cases:  # else it is not what runs: its cases fill in its values
        _check_patterns(experiment)


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
