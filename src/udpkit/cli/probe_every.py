"""`udpkit probe --every`: keep asking, like ping."""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import click
from click.core import ParameterSource

from udpkit.cli import say
from udpkit.cli.durations import seconds
from udpkit.cli.exits import INTERRUPTED, SILENT, USAGE, Failure
from udpkit.cli.probe import EXIT_CODES
from udpkit.cli.probe_sockets import no_socket
from udpkit.probe.every import keep_asking, open_wires
from udpkit.probe.track import Event, Tick, Track
from udpkit.probe.watch import Watch
from udpkit.probe.wire import Settings, Target
from udpkit.report.every import (
    event_document,
    event_line,
    summary_document,
    summary_lines,
    tick_line,
)
from udpkit.report.metrics import metrics

SHORTEST, LONGEST = 0.01, 86_400.0
"""Seconds between two ticks."""
WRITES = 1.0
"""Seconds between two writes of the metrics, at least: nobody collects them more often."""


def run_every(
    targets: list[Target],
    settings: Settings,
    every: str,
    count: int | None,
    prometheus: str | None,
    as_json: bool,
) -> int:
    """Ask until `count` ticks are over, or Ctrl-C; returns the exit code. Raises Failure, UsageError."""
    interval = parse_interval(every)
    telling = Telling(settings, as_json, lines=sum(len(target.ports) for target in targets) == 1)
    try:
        watch = Watch(targets, settings, interval, telling.event, telling.settled)
    except ValueError as error:
        raise Failure(f"--every {every}: {error}", USAGE) from error
    if settings.rate and len(watch.tracks) / interval > settings.rate:
        raise Failure(f"--every {every}: that is more than --rate {settings.rate:g} allows", USAGE)
    if settings.retries and chosen("retries"):
        say("--retries is not used with --every: what is lost is counted, as by ping")
    interrupted = False
    with ExitStack() as stack:
        try:
            wires = stack.enter_context(open_wires(watch, settings))
        except OSError as error:
            raise no_socket(settings, error) from error
        telling.keep(prometheus, watch.tracks)
        try:
            keep_asking(wires, watch, interval, count, telling.between)
        except KeyboardInterrupt:
            interrupted = True
    watch.finish(time.monotonic())
    telling.end(watch.tracks)
    if interrupted:
        return INTERRUPTED
    return max(EXIT_CODES[track.state] if track.state else SILENT for track in watch.tracks)


def chosen(option: str) -> bool:
    """Whether the user gave this option, rather than its default."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def parse_interval(text: str) -> float:
    """Seconds. Raises UsageError."""
    try:
        interval = seconds(text)
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint="--every") from error
    if not SHORTEST <= interval <= LONGEST:
        raise click.BadParameter(f"{text} is not between 10ms and a day", param_hint="--every")
    return interval


class Telling:
    """What happens, on stdout and in the file of metrics."""

    def __init__(self, settings: Settings, as_json: bool, *, lines: bool) -> None:
        """lines: whether to show a line for every answer; else a line a tick and every change."""
        self._timeout = settings.timeout
        self._json = as_json
        self._lines = lines
        self._changed: dict[Track, float] = {}
        self._file: Metrics | None = None

    def keep(self, path: str | None, tracks: Sequence[Track]) -> None:
        """Write metrics to this file from now on. Raises Failure if that cannot be."""
        if path is None:
            return
        self._file = Metrics(Path(path), tracks, self._changed)
        try:
            self._file.write()
        except OSError as error:
            raise Failure(f"{path}: {error.strerror or error}", USAGE) from error

    def event(self, event: Event) -> None:
        wall = time.time()
        if event.kind == "change":
            self._changed[event.track] = wall
            if self._file:
                self._file.due = True
        if self._json:
            click.echo(json.dumps(event_document(event, wall)))
        elif event.kind == "change":
            # Of one port, the first answer has told the state.
            if event.was or event.result is None or not self._lines:
                click.echo(event_line(event, self._timeout, wall))
        elif self._lines:
            click.echo(event_line(event, self._timeout, wall))

    def settled(self, tick: Tick) -> None:
        if self._file:
            self._file.due = True
        if not self._json and not self._lines:
            click.echo(tick_line(tick))

    def between(self) -> float:
        return self._file.write_if_due() if self._file else math.inf

    def end(self, tracks: Sequence[Track]) -> None:
        if self._file:
            self._file.write_or_say()
        if self._json:
            click.echo(json.dumps(summary_document(tracks, time.time())))
        else:
            click.echo("\n".join(summary_lines(tracks)))


class Metrics:
    """A file for node_exporter's textfile collector: whoever reads it sees one whole state of it."""

    def __init__(self, path: Path, tracks: Sequence[Track], changed: dict[Track, float]) -> None:
        self.due = False
        self._path = path
        self._tracks = tracks
        self._changed = changed
        self._written = -math.inf
        self._failed = False

    def write_if_due(self) -> float:
        """Returns when it wants to be called again, by time.monotonic()."""
        if not self.due:
            return math.inf
        next_write = self._written + WRITES
        if time.monotonic() < next_write:
            return next_write
        self.write_or_say()
        return math.inf

    def write_or_say(self) -> None:
        """A disk that is full for a while is no reason to end; it is told once."""
        try:
            self.write()
            self._failed = False
        except OSError as error:
            if not self._failed:
                say(f"{self._path}: {error.strerror or error}; going on without")
            self._failed = True

    def write(self) -> None:
        """Put a new file in the place of the old one. Raises OSError."""
        self.due = False
        self._written = time.monotonic()
        if self._path.exists() and not stat.S_ISREG(self._path.stat().st_mode):
            raise OSError(0, "not a regular file")
        # The collector reads *.prom: the name must not end so before it is whole.
        descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, 0o644)
                file.write(metrics(self._tracks, self._changed))
            Path(name).replace(self._path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
