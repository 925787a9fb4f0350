"""When a finding about something that still goes on is certain enough to be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from udpkit.diagnosis.finding import Finding, Severity

PATIENCE: dict[Severity, float] = {"error": 0.2, "warning": 1.0, "note": 1.0}
"""Seconds that a finding must last: what comes a moment later may explain it away."""
MOST = 100_000
"""Findings that are remembered as told."""

Key = tuple[object, ...]


class Certain:
    """Tells each finding once."""

    def __init__(self) -> None:
        self._since: dict[Key, float] = {}
        self._told: dict[Key, None] = {}
        self.waits = False
        """Some of the last findings have not lasted long enough yet."""

    def new(self, findings: Iterable[Finding], now: float) -> Iterator[Finding]:
        """Of all findings as they are now, those that became certain. `now`: seconds, of any clock.

        One that is gone at the next look begins anew when it comes back.
        """
        seen: dict[Key, float] = {}
        for one in findings:
            key = _key(one)
            since = seen[key] = self._since.get(key, now)
            if key not in self._told and now - since >= PATIENCE[one.severity]:
                self._told[key] = None
                yield one
        self._since = seen
        self.waits = not seen.keys() <= self._told.keys()
        while len(self._told) > MOST:
            del self._told[next(iter(self._told))]


def _key(one: Finding) -> Key:
    """The same for alike findings (`engine.diagnose`), whatever process is known by now."""
    return one.code, one.clients, one.server, one.actual
