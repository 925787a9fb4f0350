"""Running an experiment: play it, compare with what it expects, try its fixes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from udpkit.diagnosis import Finding
from udpkit.facts.text import in_one_line
from udpkit.fixes import FIXES, advise
from udpkit.lab.errors import LabError, LabUnavailable, Unfit
from udpkit.lab.experiment import ExpectedFinding, Experiment, FixesPlan, Outcome, Sockets
from udpkit.lab.patterns import first_unfound, fits
from udpkit.lab.play import Played, StepFailed, play, socket_line
from udpkit.lab.prove import NOT_TRIED, Proof, prove
from udpkit.lab.sequence import line

LONGEST_SEEN = 200
"""Characters that a reason shows of a line; a datagram may have 65507."""


@dataclass(slots=True)
class Result:
    """How an experiment went. `reason` says why it did not pass, or what of it could not be tried."""

    experiment: Experiment
    result: Literal["pass", "fail", "skip"]
    reason: str | None
    seconds: float
    played: Played | None = None
    findings: Sequence[Finding] = ()
    proofs: Sequence[Proof] = field(default_factory=list)

    def cells(self) -> dict[str, str]:
        """The row of this experiment in the table of its file's cases, by column."""
        taken = self.played.taken if self.played else []
        return {
            column: one.seen[-1] if one.seen else ""
            for one in taken
            if (column := getattr(one.step, "column", ""))
        }


def run(
    experiment: Experiment,
    *,
    with_fixes: bool = True,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Result:
    """Run one experiment. `progress` is called with the trials done and those there are.

    Raises LabUnavailable; whatever else goes wrong is the result's reason.
    """
    started = time.monotonic()
    result = Result(experiment, "pass", None, 0)
    try:
        _run(result, with_fixes, progress)
    except Unfit as missing:
        result.result, result.reason = "skip", str(missing)
    except LabUnavailable:
        raise
    except StepFailed as failed:
        result.result, result.played = "fail", failed.played
        result.reason = "; ".join(_with_ended([str(failed)], failed.played))
        result.findings = [advise(finding) for finding in failed.played.findings()]
    except LabError as error:
        result.result, result.reason = "fail", str(error)
    result.seconds = time.monotonic() - started
    return result


def _run(result: Result, with_fixes: bool, progress: Callable[[int, int], object]) -> None:
    experiment = result.experiment
    result.played = play(experiment)
    result.findings = result.played.findings()
    differences = list(_differences(experiment, result.played, result.findings))
    untried: list[str] = []
    plan = experiment.fixes
    fixable = _fixable(plan, result.findings) if plan else None
    if plan and with_fixes and fixable is None:
        differences.append("no finding that its fixes are for, so none was tried")
    if plan and with_fixes and fixable:
        total, done = sum(map(len, plan.expect.values())), itertools.count(1)
        result.proofs = prove(experiment, plan, fixable, lambda: progress(next(done), total))
        for proof in result.proofs:
            differences += _unexpected(proof, plan.expect[proof.id])
            untried += [trial.seen for trial in proof.trials.values() if trial.seen.startswith(NOT_TRIED)]
        outcomes = {proof.id: proof.trials[plan.exchange].outcome for proof in result.proofs}
        verified = {fix: outcome == "works" for fix, outcome in outcomes.items() if outcome}
        result.findings = [advise(finding, verified) for finding in result.findings]
    else:
        result.findings = [advise(finding) for finding in result.findings]
    if differences:
        result.result, result.reason = "fail", "; ".join(_with_ended(differences, result.played))
    elif notes := [*result.played.notes, *dict.fromkeys(untried)]:
        result.reason = "; ".join(notes)


def _with_ended(reasons: list[str], played: Played) -> list[str]:
    """Why it failed, and the programs that ended with an error, which may be why; each thing once."""
    untold = [ended for ended, last in played.ended.items() if not any(last in reason for reason in reasons)]
    return reasons + untold


def _fixable(plan: FixesPlan, findings: Sequence[Finding]) -> Finding | None:
    """The first finding that any fix of the plan is for; the fix `none` is for all."""
    codes = {code for fix_id in plan.expect if fix_id in FIXES for code in FIXES[fix_id].codes}
    return next((finding for finding in findings if finding.code in codes or not codes), None)


def _differences(experiment: Experiment, played: Played, findings: Sequence[Finding]) -> Iterator[str]:
    """Where what was seen is not what the experiment expects."""
    for say, fate in played.said:
        if say.fate != fate:
            yield f"“{say.text}” was {fate}, expected it to be {say.fate}"
    yield from played.unexpected
    looked = (step for step in experiment.steps if isinstance(step, Sockets))
    for step, look in zip(looked, played.looks, strict=True):
        entries = [socket_line(entry) for entry in look.table.entries]
        yield from _first_difference(f"{look.on}, {look.when}, socket", step.expect, entries)
    for name, patterns in experiment.expect.calls.items():
        if unfound := first_unfound(patterns, played.calls[name]):
            yield f"{name} did not call {unfound} in its turn; it called {' / '.join(played.calls[name])}"
    sequence = [line(message) for message in played.messages]
    yield from _first_difference("message", experiment.expect.sequence, sequence)
    expected = list(experiment.expect.findings)
    for finding in findings:
        if fitting := next((one for one in expected if _fits(one, finding)), None):
            expected.remove(fitting)
        else:
            yield f"unexpected finding {finding.code}: {finding.summary.rstrip('.')}"
    for missing in expected:
        yield f"missing finding {missing.code} ({missing.client} > {missing.server}, actual {missing.actual})"


def _unexpected(proof: Proof, expected: Mapping[str, Outcome]) -> Iterator[str]:
    for exchange, trial in proof.trials.items():
        if trial.outcome != expected.get(exchange) and not trial.seen.startswith(NOT_TRIED):
            wanted = expected.get(exchange)
            yield f"fix {proof.id}, {exchange}: {trial.outcome} ({trial.seen}), expected {wanted}"


def _first_difference(what: str, patterns: Sequence[str], texts: Sequence[str]) -> Iterator[str]:
    """At most one: where the texts are not as the patterns say, what comes after rarely is."""
    for number, (pattern, text) in enumerate(itertools.zip_longest(patterns, texts), start=1):
        if pattern is None or text is None or not fits(pattern, text):
            seen = "none" if text is None else in_one_line(text)
            seen = seen if len(seen) <= LONGEST_SEEN else f"{seen[:LONGEST_SEEN]}…"
            yield f"{what} {number}: {seen}, expected {'none' if pattern is None else pattern}"
            return


def _fits(expected: ExpectedFinding, finding: Finding) -> bool:
    return (expected.code, expected.severity) == (finding.code, finding.severity) and all(
        fits(pattern, str(endpoint))
        for pattern, endpoint in [
            (expected.client, finding.client),
            (expected.server, finding.server),
            (expected.actual, finding.actual),
        ]
    )
