"""What `udpkit probe --every --prometheus` writes: the text format of Prometheus, 0.0.4."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from udpkit.probe.result import State
from udpkit.probe.track import BOUNDS, Track

METRICS: Sequence[tuple[str, str, str, Callable[[Track], float | None]]] = (
    ("sent_total", "counter", "Requests sent.", lambda track: track.sent),
    ("answered_total", "counter", "Requests answered in time, from the right source.", lambda t: t.answered),
    ("lost_total", "counter", "Requests with neither answer nor error in time.", lambda track: track.lost),
    ("refused_total", "counter", "Requests that an ICMP error or this host refused.", lambda t: t.refused),
    ("wrong_source_total", "counter", "Requests answered from a wrong source.", lambda t: t.wrong_source),
    ("late_total", "counter", "Lost requests that were answered or refused later.", lambda t: t.late),
    ("duplicates_total", "counter", "Answers to requests that had one.", lambda track: track.duplicates),
    ("up", "gauge", "Whether the port is open.", lambda track: track.state is State.OPEN),
    ("rtt_seconds", "gauge", "The last round trip.", lambda track: track.round_trips.last),
)
"""Name, type, help, and value; None where there is none yet."""


def metrics(tracks: Sequence[Track], changed: Mapping[Track, float]) -> str:
    """The text format of Prometheus, 0.0.4: what node_exporter's textfile collector reads.

    changed: when each port's state changed last, in seconds since the epoch.
    """
    labels = {
        track: f'host="{_escaped(track.host)}",address="{track.target.address}",port="{track.target.port}"'
        for track in tracks
    }
    lines: list[str] = []

    def family(name: str, kind: str, text: str, samples: Iterable[tuple[str, Track, str, float]]) -> None:
        lines.append(f"# HELP udpkit_probe_{name} {text}")
        lines.append(f"# TYPE udpkit_probe_{name} {kind}")
        lines.extend(
            f"udpkit_probe_{name}{suffix}{{{labels[track]}{more}}} {_number(value)}"
            for suffix, track, more, value in samples
        )

    for name, kind, text, value_of in METRICS:
        values = ((track, value_of(track)) for track in tracks)
        family(name, kind, text, [("", track, "", value) for track, value in values if value is not None])
    family(
        "state",
        "gauge",
        "1 for the state that the port is in; all 0 before that is known.",
        [("", track, f',state="{state.value}"', track.state is state) for track in tracks for state in State],
    )
    family(
        "last_change_timestamp_seconds",
        "gauge",
        "When the state changed last.",
        [("", track, "", changed[track]) for track in tracks if track in changed],
    )
    family("round_trip_seconds", "histogram", "Round trips.", [one for t in tracks for one in _histogram(t)])
    return "\n".join(lines) + "\n"


def _histogram(track: Track) -> Iterator[tuple[str, Track, str, float]]:
    ends = [*map(str, BOUNDS), "+Inf"]
    for end, number in zip(ends, accumulate(track.round_trips.buckets), strict=True):
        yield "_bucket", track, f',le="{end}"', number
    yield "_sum", track, "", track.round_trips.sum
    yield "_count", track, "", track.round_trips.count


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(value)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
