"""What `udpkit watch` does at every look, and how it tells of it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import click

from udpkit.cli import say
from udpkit.cli.exits import USAGE, Failure
from udpkit.diagnosis import Finding, diagnose
from udpkit.diagnosis.certain import Certain
from udpkit.evidence.live import LiveEvidence, Seen
from udpkit.facts import Endpoint
from udpkit.fixes import advise
from udpkit.report import watch as report
from udpkit.report.console import console

if TYPE_CHECKING:
    from udpkit._native import LiveTally

PAUSE = 0.25
"""Seconds between two looks, at least."""
SLOW = 1.0
"""And between two where nothing new is remarkable, and only numbers grow."""
SHARE = 5
"""And so many times the processor time of the last one: nobody wants a watcher that takes the machine."""
ROWS = 200
"""Conversations that are asked for to fill a terminal with."""


class Watching:
    """Findings as they become certain: above a table on a terminal, else a line each. A context manager."""

    def __init__(self, evidence: LiveEvidence, *, as_json: bool, writes: bool) -> None:
        self.told = 0
        self.faults = 0
        """Findings that are more than a note."""
        self._evidence = evidence
        self._json = as_json
        self._writes = writes
        self._certain = Certain()
        self._findings: dict[tuple[Endpoint, Endpoint], Finding] = {}
        self._out = console()
        self._live = None
        self._stack = ExitStack()
        self._spent = 0.0
        self._mark: object = None
        self._due = 0.0
        self._unjudged = 0
        if not as_json and self._out.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._out, auto_refresh=False, transient=True)

    def __enter__(self) -> Watching:
        if self._live:
            self._stack.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def look(self) -> None:
        """See what there is, tell what is new and certain. Raises Failure if reading has ended."""
        began, spent = time.monotonic(), time.thread_time()
        if self._is_news(self._evidence.glance()) or self._certain.waits or began >= self._due:
            self._tell(self._evidence.seen(), began)
            self._due = began + SLOW
        if self._live:
            self._draw()
        self._spent = time.thread_time() - spent

    def _is_news(self, tally: LiveTally) -> bool:
        """Whether there is more of what findings are about than at the look before."""
        errors = sum(errors for _, _, _, errors in tally.interfaces)
        before, self._mark = self._mark, (tally.conversations, errors, tally.drops, tally.failure)
        return before != self._mark

    def pause(self, until: float) -> None:
        """Wait for the next look, at most `until` (time.monotonic())."""
        time.sleep(max(0.0, min(max(PAUSE, SHARE * self._spent), until - time.monotonic())))

    def finish(self, took: float) -> None:
        """Read what has come, tell what lasts, and how it went."""
        self._evidence.stop()
        seen = self._evidence.seen()
        now = time.monotonic()
        self._tell(seen, now)
        drops = not self._evidence.without_drops
        for sentence in report.summary(seen.tally, self.told, took, drops=drops, unjudged=self._unjudged):
            say(sentence)

    def _tell(self, seen: Seen, now: float) -> None:
        if seen.tally.failure:
            raise Failure(f"cannot capture any more: {seen.tally.failure}", USAGE)
        self._unjudged = max(self._unjudged, seen.case.unjudged)
        findings = diagnose(seen.case)
        self._findings = {
            (one.client, one.server): one
            for one in findings
            if isinstance(one.client, Endpoint) and one.server
        }
        told = list(self._certain.new(findings, now))
        if any(not (one.process or self._process(one)) for one in told):
            self._evidence.learn_again()
        for one in told:
            finding = advise(replace(one, process=one.process or self._process(one)))
            self.told += 1
            self.faults += finding.is_fault
            self._want(finding)
            if self._json:
                click.echo(json.dumps(report.document(finding, seen.case.sources)))
            elif self._live:
                from udpkit.report.findings import show_findings

                show_findings(self._live.console, [finding], seen.case.sources)
            else:
                click.echo(report.line(finding))

    def _process(self, one: Finding) -> str | None:
        """Who holds the server's socket, if it is here, else the client's."""
        client = one.client if isinstance(one.client, Endpoint) else None
        pairs = [(one.server, client), (one.actual, client), (client, one.server)]
        owners = (self._evidence.owner(local, peer) for local, peer in pairs if local)
        return next(filter(None, owners), None)

    def _want(self, one: Finding) -> None:
        """Have the packets written that a finding is about."""
        client = one.client if isinstance(one.client, Endpoint) else None
        if self._writes:
            self._evidence.want([(end, client) for end in (one.server, one.actual) if end])

    def _draw(self) -> None:
        if self._live:
            rows = self._evidence.latest(ROWS)
            owners = {}
            for client, server, *_ in rows:
                for local, peer in ((server, client), (client, server)):
                    if name := self._evidence.owner(local, peer):
                        owners[local] = name
            self._live.update(report.table(rows, self._findings, owners, self._out.height), refresh=True)
