"""How large a datagram may be on the way to an address.

Theory of operation. Datagrams that must not be fragmented are sent (IP_PMTUDISC_PROBE, which looks past the
path MTU that the kernel remembers), first as large as the interface allows; each "fragmentation needed" or
"packet too big" names a smaller size (RFC 1191, RFC 8201). A reply or refusal proves that a size gets
through; where the service says nothing to long requests, a closed port of the host is asked. If small
datagrams are answered and large ones are not, although no router has said a word, something swallows those (a
black hole, RFC 2923): bisection finds the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from udpkit.facts import Address
from udpkit.probe.path import Path, smaller_size
from udpkit.probe.result import State, state_of
from udpkit.sockets import Datagram, ErrorReport

LARGEST = 65_507
"""Bytes of payload: RFC 768 over IPv4."""
MOST_REPORTS = 10
"""So many routers may name a smaller size."""
USUAL = (576, 1006, 1280, 1350, 1380, 1400, 1420, 1440, 1450, 1472, 1476, 1480, 1492, 1500, 4352, 9000)
"""MTUs of links and tunnels: tried before others."""


@dataclass(frozen=True, slots=True)
class PathMtu:
    """How large a packet may be on the way, IP header included."""

    bytes: int
    by: Address | None
    """The router that named that size; None if nobody did."""
    proven: bool
    """A datagram of that size was answered, or refused by the one who decided."""
    black_hole: bool
    """Larger ones vanish, and nobody says why."""
    evidence: str


@dataclass(frozen=True, slots=True)
class Descent:
    """How far the sizes that were named led down."""

    size: int
    by: Address | None
    """The router that named it."""
    mute: Address | None
    """A router that says "too big" then, but names no size that can be."""
    answer: Datagram | ErrorReport | None
    """To the last datagram."""


def measure(path: Path, routers: Sequence[tuple[int, Address]], *, is_closed: bool) -> PathMtu:
    """The path MTU.

    routers: TTL and address of those that answered. is_closed: whether the host itself refuses the target.
    """
    path.limit_hops(None)
    path.never_fragment()
    if is_closed:
        path.canary = path.target.port
    found = descend(path)
    says = f"{found.by} says so" if found.by else "nothing smaller was reported"
    if how := passed(found.answer) or passed_elsewhere(path, found.size):
        evidence = f"{says}; a datagram of that size was {how}"
        return PathMtu(found.size, found.by, proven=True, black_hole=False, evidence=evidence)
    if smaller := bisect(path, routers, found):
        return smaller
    evidence = f"{says}; a router that drops without a word would not show"
    return PathMtu(found.size, found.by, proven=False, black_hole=False, evidence=evidence)


def descend(path: Path) -> Descent:
    """From the interface's MTU down, as long as somebody names a smaller size."""
    size, by = LARGEST + path.family.overhead, None
    for _ in range(MOST_REPORTS + 1):
        answer = path.ask(path.target.port, size)
        named = smaller_size(answer) if isinstance(answer, ErrorReport) else None
        if not isinstance(answer, ErrorReport) or named is None:
            break
        if not path.family.least <= named < size:  # RFC 1191 5: some name no size; or it is forged
            return Descent(size, by, answer.offender, answer)
        size = named
        by = answer.offender if answer.origin != "local" else by
    return Descent(size, by, None, answer)


def passed(answer: Datagram | ErrorReport | None) -> str:
    """How it is known that a datagram got through; empty if it is not."""
    if isinstance(answer, Datagram):
        return "answered"
    state = state_of(answer) if answer else None
    if state is State.CLOSED:
        return "refused by the host itself"
    if answer and state is State.PROHIBITED and answer.origin != "local":
        return f"refused by {answer.offender}, so it is known as far as there"
    return ""


def passed_elsewhere(path: Path, size: int) -> str:
    """The same of a datagram to a port that is refused, if the target is not that one."""
    canary = path.seek_canary()
    if canary is None or canary == path.target.port:
        return ""
    how = passed(path.ask(canary, size))
    return how and f"{how} at port {canary}"


def bisect(path: Path, routers: Sequence[tuple[int, Address]], found: Descent) -> PathMtu | None:
    """The largest size below that which gets through; None if that cannot be known."""
    judge = path.canary or path.target.port

    def passes(size: int) -> bool:
        return bool(passed(path.ask(judge, size)))

    low, high = path.family.ordinary, found.size
    if low >= high or not passes(low):
        return None
    reached = farthest(path, routers, found.size)
    vanishes = bool(routers) and reached != routers[-1]
    if not (path.canary or found.mute or vanishes):
        return None  # every router sees them; that the service ignores what is so long is as likely
    while high - low > 1:
        middle = next_size(low, high)
        low, high = (middle, high) if passes(middle) else (low, middle)
    # Silence for lack of a token would show now: again, and one that gets through right behind it.
    if passes(high) or not passes(low):
        return None
    if found.mute:
        evidence = f"{found.mute} says that larger datagrams are too big, but not which size would do"
    else:
        where = " behind hop {} ({})".format(*reached) if reached else ""
        evidence = f"larger datagrams vanish without a word: a black hole{where}"
    return PathMtu(low, found.mute, proven=True, black_hole=not found.mute, evidence=evidence)


def next_size(low: int, high: int) -> int:
    """The size to try, where `low` gets through and `high` does not."""
    if usual := [one for one in USUAL if low < one < high]:
        return usual[len(usual) // 2]
    # A usual MTU that gets through is most often the one: then the next byte does not.
    return low + 1 if low in USUAL else (low + high) // 2


def farthest(path: Path, routers: Sequence[tuple[int, Address]], size: int) -> tuple[int, Address] | None:
    """The last router to which packets of that size are known to get."""
    reached = None
    for number, address in routers:
        path.limit_hops(number)
        answer = path.ask(path.target.port, size, exceeds=True)
        if not isinstance(answer, ErrorReport) or answer.offender != address:
            break
        reached = number, address
    path.limit_hops(None)
    return reached
