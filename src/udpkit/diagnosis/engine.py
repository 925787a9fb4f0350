"""Runs every rule over a case."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from udpkit.diagnosis import rules
from udpkit.diagnosis.conversations import Conversation, conversations, without_copies
from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case

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

    Several captures are read as one, in the order of their times: a request and its reply may have taken
    different links.
    """
    messages = sorted(case.messages, key=lambda message: message.time_ns)
    put_together = conversations(without_copies(messages))
    findings = [finding for rule in RULES.values() for finding in rule.find(case, put_together)]
    return sorted(findings, key=lambda finding: (finding.first or 0, finding.code))
