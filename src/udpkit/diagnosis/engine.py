"""Runs every rule over a case."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from udpkit.diagnosis import rules
from udpkit.diagnosis.conversations import Conversation, conversations
from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case, Datagram, IcmpError

Find = Callable[[Case, list[Conversation]], Iterable[Finding]]


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

    What several captures of one exchange show is found once, by the one that shows the worst of it or, of
    equals, the most.
    """
    captures: dict[int, list[Datagram | IcmpError]] = defaultdict(list)
    for message in case.messages:
        captures[message.seen.source].append(message)
    found: dict[tuple[object, ...], Finding] = {}
    for capture in captures.values() or [[]]:  # socket tables alone may tell something, too
        put_together = conversations(capture)
        for rule in RULES.values():
            for finding in rule.find(case, put_together):
                key = (finding.code, finding.client, finding.server, finding.actual)
                if key not in found or _weight(finding) > _weight(found[key]):
                    found[key] = finding
    return sorted(found.values(), key=lambda finding: (finding.first or 0, finding.code))


def _weight(finding: Finding) -> tuple[bool, int]:
    return finding.severity == "error", len(finding.evidence)
