"""Where a fact comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a fact was read: the source's index, and the packet or line in it, counted from 1."""

    source: int
    packet: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        return f"packet {self.packet}" if self.packet is not None else f"line {self.line}"
