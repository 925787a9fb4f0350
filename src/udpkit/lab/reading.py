"""Experiment files: TOML in, an experiment out. Unknown keys, names and placeholders are errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from udpkit.facts.text import in_one_line
from udpkit.fixes import fill
from udpkit.fixes.fix import PLACEHOLDER
from udpkit.lab.checks import check
from udpkit.lab.errors import BadExperiment
from udpkit.lab.experiment import STEPS, Expect, ExpectedFinding, Experiment, HostPlan, Interface, ProgramPlan
from udpkit.lab.names import near_or_all

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("experiments")

OWN = {"name", "case"}
"""Fields of an experiment that its file does not say."""
UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


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
        check(experiment)
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
