"""Trying every fix on fresh hosts."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from msgspec import structs

from udpkit.diagnosis import Finding
from udpkit.facts import Datagram
from udpkit.fixes import EXCHANGES, FIXES, Fix, fill
from udpkit.lab.errors import LabError, LabUnavailable, Unfit
from udpkit.lab.experiment import Command, Experiment, FixesPlan, Outcome, Say, Start, Step
from udpkit.lab.lab import Lab
from udpkit.lab.play import Played, play
from udpkit.lab.waiting import Cancel

AT_ONCE = 4
"""Labs that are up at the same time; each mostly waits."""

Stage = Callable[[Lab], object]

NOTHING = Fix(title="nothing changed", codes=frozenset(), tradeoff="")
"""What `none` stands for in an experiment: the fault without a fix."""

REMEDIES = ChainMap({"none": NOTHING}, FIXES)
"""All that can be tried, by id."""

NOT_TRIED = "not tried: "


@dataclass(frozen=True, slots=True)
class Trial:
    """How one exchange went with a fix. `outcome`: None where it has no meaning or could not be tried."""

    outcome: Outcome | None
    seen: str


UNTRIED = Trial(None, "")


@dataclass(frozen=True, slots=True)
class Proof:
    """A fix and how each exchange went with it, by the exchange's name."""

    id: str
    title: str
    trials: Mapping[str, Trial]

    def seen(self, separator: str = "; ") -> str:
        """What was seen, each thing once, with the exchanges that it was seen in."""
        exchanges: dict[str, list[str]] = {}
        for exchange, trial in self.trials.items():
            exchanges.setdefault(trial.seen, []).append(exchange)
        exchanges.pop("", None)
        if len(exchanges) == 1:
            return next(iter(exchanges))
        return separator.join(f"{', '.join(names)}: {seen}" for seen, names in exchanges.items())


def prove(
    experiment: Experiment,
    plan: FixesPlan,
    finding: Finding,
    tried: Callable[[], object] = lambda: None,
    stage: Stage | None = None,
) -> list[Proof]:
    """Try each fix of the plan, fitted to the finding, in every exchange; calls `tried` after each trial.

    `stage` builds the hosts instead of what the experiment says of them.
    """

    def run(fix_id: str, exchange: str) -> Trial:
        trial = _try(experiment, plan, finding, REMEDIES[fix_id], exchange, stage, cancel)
        tried()
        return trial

    with at_once() as (pool, cancel):
        running = {
            fix_id: {exchange: pool.submit(run, fix_id, exchange) for exchange in expected}
            for fix_id, expected in plan.expect.items()
        }
        return [
            Proof(
                fix_id,
                REMEDIES[fix_id].title,
                {name: trials[name].result() if name in trials else UNTRIED for name in EXCHANGES},
            )
            for fix_id, trials in running.items()
        ]


@contextmanager
def at_once() -> Iterator[tuple[ThreadPoolExecutor, Cancel]]:
    """Threads for trials, and what ends the waiting of those that an error leaves."""
    with Cancel() as cancel, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            yield pool, cancel
        except BaseException:
            cancel.now()
            pool.shutdown(cancel_futures=True)
            raise


def _try(
    experiment: Experiment,
    plan: FixesPlan,
    finding: Finding,
    fix: Fix,
    exchange: str,
    stage: Stage | None,
    cancel: Cancel,
) -> Trial:
    placeholders = fix.placeholders(finding)
    if fix.servers.get(exchange, "") is None:
        return UNTRIED
    try:
        played = play(
            experiment,
            steps=[_open_ended(step) for step in experiment.steps if isinstance(step, Start | Say | Command)],
            programs={
                name: fill(line, placeholders) for name, line in _programs(plan, fix, exchange).items()
            },
            commands={
                experiment.programs[plan.server].on: [fill(line, placeholders) for line in fix.commands]
            },
            stage=stage,
            cancels=[cancel],
        )
    except LabUnavailable:
        raise
    except Unfit as missing:
        return Trial(None, f"{NOT_TRIED}{missing}")
    except LabError as error:  # a command that the kernel or the program refuses: never as expected
        return Trial(None, str(error))
    return judge(played, finding)


def _open_ended(step: Step) -> Step:
    """What is said may be heard now; what a command prints may be something else."""
    match step:
        case Say():
            return structs.replace(step, fate="heard")
        case Command():
            return structs.replace(step, prints=[])
    return step


def _programs(plan: FixesPlan, fix: Fix, exchange: str) -> dict[str, str]:
    """The command lines that take the places of the experiment's own, by the programs' names."""
    usual = None if exchange == plan.exchange else EXCHANGES[exchange]
    server = fix.servers.get(exchange) or (usual and usual.server)
    client = fix.clients.get(exchange) or (usual and usual.client)
    return {name: line for name, line in ((plan.server, server), (plan.client, client)) if line}


def judge(played: Played, finding: Finding) -> Trial:
    """It works if every line was heard and the evidence shows no fault."""
    findings = played.findings()
    unheard = [f"“{say.text}” was {fate}" for say, fate in played.said if fate != "heard"]
    if not findings and not unheard:
        datagrams = [message for message in played.messages if isinstance(message, Datagram)]
        port = finding.server.port if finding.server else None
        sources = {str(one.source) for one in datagrams if one.source.port == port}
        if sources:
            return Trial("works", f"replies from {', '.join(sorted(sources))}")
        return Trial("works", "every line was heard" if datagrams else "over TCP")
    seen = [words for one in findings if (words := _short(one))] or unheard
    return Trial("fails", ", ".join(seen or [one.code for one in findings]))


def _short(finding: Finding) -> str | None:
    """How a reply went wrong; None of what a line's fate says as well."""
    if finding.code == "listener-locked-to-first-peer":
        return f"listener locked to {finding.actual}"
    refused = ", refused" if finding.severity == "error" else ""
    if finding.code == "reply-from-other-address":
        return f"reply from {finding.actual}{refused}"
    if finding.code in ("reply-from-other-port", "nat-moved-port") and finding.actual:
        return f"reply moved to port {finding.actual.port}{refused}"
    return None
