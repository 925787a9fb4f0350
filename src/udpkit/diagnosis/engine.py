"""Runs every rule over a case."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from udpkit.diagnosis import rules
from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case, Endpoint, Reference

Find = Callable[[Case], Iterable[Finding]]

MOST_EVIDENCE = 20
"""References that a finding keeps."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One file of `rules/`: its name is the code, its docstring the manual page, `find` the test."""

    code: str
    manual: str
    find: Find


def _load() -> Iterator[Rule]:
    for module_info in pkgutil.iter_modules(rules.__path__):
        module = importlib.import_module(f"{rules.__name__}.{module_info.name}")
        yield Rule(module_info.name.replace("_", "-"), module.__doc__ or "", module.find)


RULES = {rule.code: rule for rule in _load()}
"""Every rule by its code."""


def diagnose(case: Case) -> list[Finding]:
    """All findings of a case, by the order of their first evidence.

    Those of one client's address that are alike in all but its port are one finding.
    """
    alike: dict[object, list[Finding]] = {}
    for rule in RULES.values():
        for one in rule.find(case):
            key = (one.code, one.severity, one.clients, one.server, one.actual, one.process)
            alike.setdefault(key, []).append(one)
    findings = [_merged(several) for several in alike.values()]
    return sorted(findings, key=lambda finding: (finding.first or 0, finding.code))


def _merged(alike: list[Finding]) -> Finding:
    """The first of them, with what the others add."""
    ports = {one.client.port for one in alike if isinstance(one.client, Endpoint)}
    return replace(
        alike[0],
        summary=_of_ports(alike[0].summary, len(ports)),
        count=sum(one.count for one in alike),
        first=min((one.first for one in alike if one.first is not None), default=None),
        last=max((one.last for one in alike if one.last is not None), default=None),
        evidence=_bounded(alike),
        second=all(one.second for one in alike),
    )


def _of_ports(summary: str, ports: int) -> str:
    return f"{summary.removesuffix('.')} ({ports} of its ports)." if ports > 1 else summary


def _bounded(alike: list[Finding]) -> list[Reference]:
    evidence: dict[Reference, None] = {}
    for one in alike:
        evidence.update(dict.fromkeys(one.evidence))
        if len(evidence) >= MOST_EVIDENCE:
            break
    return list(evidence)[:MOST_EVIDENCE]
