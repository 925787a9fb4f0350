"""What `udpkit probe --every` tells: lines as of ping, and JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from udpkit.facts.text import in_one_line
from udpkit.probe.result import Result, State
from udpkit.probe.track import Event, Fate, Tick, Track
from udpkit.probe.watch import REFUSING
from udpkit.report.probe import COLOURS, icmp_document, milliseconds

QUANTILES = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}

# Lines.


def event_line(event: Event, timeout: float, wall: float) -> str:
    """One event. timeout: seconds; wall: seconds since the epoch, shown as this host's local time."""
    if event.kind == "change":
        line = f"{_clock(wall)}  {event.track.target}  {_change(event)}"
        return click.style(line, fg=COLOURS.get(event.state) if event.state else None, bold=True)
    start = f"{event.track.target}  seq {event.seq}"
    if event.result is None:
        still = f"; still {event.state.value}: errors are rate limited" if event.state in REFUSING else ""
        return f"{start}  no answer within {timeout:g} s{still}"
    state = event.result.state
    unusual = "" if event.kind in ("reply", "refused") else f"{event.kind}  "
    rtt = f"{_ms(event.result.rtt)} ms  " if event.result.rtt is not None else ""
    word = click.style(state.value, fg=COLOURS[state])
    return f"{start}  {unusual}{word}  {rtt}{in_one_line(_what(event.result))}"


def _clock(wall: float) -> str:
    return datetime.fromtimestamp(wall).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _change(event: Event) -> str:
    state = event.state.value if event.state else "unknown"
    if event.result is None:
        why = "no answer and no error, several times in a row"
    else:
        why = in_one_line(_what(event.result))
    if event.was is None:
        return f"is {state} ({why})"
    if event.state is State.OPEN and event.track.left_open is not None:
        return f"back: open after {event.after or 0:.1f} s ({why})"
    return f"went from {event.was.value} to {state} ({why})"


def _what(result: Result) -> str:
    """Of an answer from the right place, only what it is: the place is known."""
    first = result.evidence[0]
    return first.partition(": ")[2] if result.state is State.OPEN else first


def tick_line(tick: Tick) -> str:
    """What became of all requests of a tick."""
    fates = [f"{number} {fate.value}" for fate, number in tick.fates.items() if number]
    rtt = ""
    if tick.round_trips:
        ordered = sorted(tick.round_trips)
        rtt = f"  {_ms(ordered[0])}/{_ms(ordered[len(ordered) // 2])}/{_ms(ordered[-1])} ms"
    return f"seq {tick.seq}  {', '.join(fates)}{rtt}"


def summary_lines(tracks: Sequence[Track]) -> Iterator[str]:
    """As ping ends."""
    for track in tracks:
        called = "" if track.host == str(track.target.address) else f" ({in_one_line(track.host)})"
        yield f"--- {track.target}{called}: {track.state.value if track.state else 'no verdict yet'} ---"
        seen: dict[str, int] = {
            Fate.WRONG_SOURCE.value: track.wrong_source,
            "refused": track.refused,
            "late": track.late,
            "duplicates": track.duplicates,
            "without an answer yet": _waiting(track),
        }
        more = "".join(f", {number} {word}" for word, number in seen.items() if number)
        yield f"{track.sent} sent, {track.answered} answered, {_loss(track):.3g} % lost{more}"
        if quantiles := _quantiles(track):
            yield f"round trip {'/'.join(quantiles)} {'/'.join(map(_ms, quantiles.values()))} ms"


def _waiting(track: Track) -> int:
    return max(0, track.sent - track.answered - track.wrong_source - track.refused - track.lost)


def _loss(track: Track) -> float:
    """Percent of those whose time was over."""
    return 100 * track.lost / max(1, track.sent - _waiting(track))


def _quantiles(track: Track) -> dict[str, float]:
    """Seconds; empty if there was no answer."""
    trips = track.round_trips
    if not trips.count:
        return {}
    exact = {"min": trips.least, "max": trips.most}
    return {name: exact.get(name, trips.quantile(share)) for name, share in QUANTILES.items()}


def _ms(seconds: float | None) -> str:
    return f"{(seconds or 0) * 1000:.3g}" if (seconds or 0) < 1 else f"{(seconds or 0) * 1000:.0f}"


# JSON, version 1.


def event_document(event: Event, wall: float) -> dict[str, Any]:
    """One line for one event."""
    result = event.result
    icmp = result.icmp if result else None
    return {
        "schema": 1,
        "time": _rfc3339(wall),
        "event": event.kind,
        **_port(event.track),
        "seq": event.seq,
        "state": event.state.value if event.state else None,
        "rtt_ms": milliseconds(result.rtt) if result else None,
        "reply_from": str(result.reply_from) if result and result.reply_from else None,
        "answer": result.answer if result else None,
        "icmp": icmp_document(icmp.kind, icmp.origin, icmp.type, icmp.code, icmp.offender) if icmp else None,
        "evidence": list(result.evidence) if result else [],
        **(
            {"was": event.was.value if event.was else None, "after_ms": milliseconds(event.after)}
            if event.kind == "change"
            else {}
        ),
    }


def summary_document(tracks: Iterable[Track], wall: float) -> dict[str, Any]:
    """The last line."""
    return {
        "schema": 1,
        "time": _rfc3339(wall),
        "event": "summary",
        "results": [
            {
                **_port(track),
                "state": track.state.value if track.state else None,
                "sent": track.sent,
                "answered": track.answered,
                "lost": track.lost,
                "loss_percent": round(_loss(track), 3),
                "refused": track.refused,
                "wrong_source": track.wrong_source,
                "late": track.late,
                "duplicates": track.duplicates,
                "rtt_ms": {name: milliseconds(value) for name, value in _quantiles(track).items()} or None,
            }
            for track in tracks
        ],
    }


def _port(track: Track) -> dict[str, Any]:
    return {"host": track.host, "address": str(track.target.address), "port": track.target.port}


def _rfc3339(wall: float) -> str:
    moment = datetime.fromtimestamp(wall, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
