"""To which request an answer or an ICMP error belongs, where many are on their way.

An answer belongs to the request that its protocol says it answers (`Protocol.recognise`). Where that
cannot tell, as all requests are alike or the answer is of another kind, the one is taken whose age is nearest
to the last round trip; before there was one, the oldest, or after a loss the newest. That can be wrong only
where the timeout is longer than the interval.
"""

from __future__ import annotations

from collections.abc import Sequence

from udpkit.probe.track import Fate, Request, Track
from udpkit.sockets import Datagram, ErrorReport


def only_suspect(tracks: Sequence[Track], datagram: Datagram) -> Track | None:
    """The one port that can have answered from elsewhere, if there is one only."""
    suspects = [
        track for track in tracks if track.waiting and (len(tracks) == 1 or _may_answer_from(track, datagram))
    ]
    if len(suspects) > 1:
        suspects = [track for track in suspects if _named(track, datagram.data)[1]]
    return suspects[0] if len(suspects) == 1 else None


def _may_answer_from(track: Track, datagram: Datagram) -> bool:
    """From its own port on another address; or where its protocol says so, from another port."""
    peer, target = datagram.peer, track.target
    moves = bool(track.recent) and track.recent[-1].payload.protocol.other_port
    return peer.port == target.port or (peer.address == target.address and moves)


def answered_request(
    track: Track, answer_untrusted: bytes, now: float, *, right: bool
) -> tuple[Request | None, bool]:
    """The request that this answers, and whether that is certain; None if it answers none.

    right: whether it came from where the request went.
    """
    named, certain = _named(track, answer_untrusted)
    if certain:
        return named, True
    if waiting := track.waiting:
        free = [request for request in waiting if right or not request.stray]
        return likely(free or waiting, now), False
    settled = list(track.recent)
    if settled and settled[-1].fate in (Fate.REFUSED, Fate.LOST):
        lost = [request for request in settled if request.fate is Fate.LOST]
        return (lost or settled)[-1], False
    return (settled[-1] if settled else None), False


def _named(track: Track, answer_untrusted: bytes) -> tuple[Request | None, bool]:
    """The newest request that it fits, and whether it fits no other one."""
    different = list({request.payload.data: request for request in track.recent}.values())
    for request in reversed(different):
        if request.payload.name(answer_untrusted):
            other = next((one for one in different if one is not request), None)
            return request, other is not None and not other.payload.name(answer_untrusted)
    return None, False


def refused_request(track: Track, report: ErrorReport, now: float) -> Request | None:
    """The request that an error is about: one that waits, or else the last one that was lost."""
    about = [request for request in track.recent if _quotes(report.quoted, request.payload.data)]
    waiting = [request for request in about if request.fate is Fate.WAITING]
    lost = (request for request in reversed(about) if request.fate is Fate.LOST)
    return likely(waiting, now) or next(lost, None)


def _quotes(quoted: bytes, payload: bytes) -> bool:
    """Whether an ICMP error can be about this payload; it may quote none of it."""
    return payload.startswith(quoted[: len(payload)])


def likely(waiting: Sequence[Request], now: float) -> Request | None:
    """Which of several like requests it is that is answered now."""
    if not waiting:
        return None
    track = waiting[0].track
    usual = track.round_trips.last
    if usual is None:
        return waiting[-1 if track.lost else 0]
    return min(waiting, key=lambda request: abs(now - request.sent_at - usual))
