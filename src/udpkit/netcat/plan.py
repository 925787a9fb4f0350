"""What the command line asks for, and how an exchange speaks of itself."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Protocol

CHUNK = 16 * 1024
"""Bytes read from stdin at once, and the largest datagram: OpenBSD's nc has no room to receive more."""

OK, REFUSED, WRONG, SILENT, UNREACHABLE, FORBIDDEN = 0, 1, 2, 3, 4, 5
"""Exit codes; WRONG is for names, addresses and ports that cannot be used."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of nc. Times are seconds; None is for ever."""

    host: str | None = None
    """The peer, or with `listen` the address to listen on; None: every address."""
    ports: tuple[int, ...] = ()
    """Several only with `scan`."""
    udp: bool = False
    listen: bool = False
    keep: bool = False
    scan: bool = False
    family: int = 0
    """AF_INET, AF_INET6, or 0 for both."""
    numeric: bool = False
    """Ask no name server."""
    source: str | None = None
    source_port: int = 0
    wait: float | None = None
    """How long connecting may take, and how long nothing may happen then."""
    quit_after: float | None = None
    """How long to go on after the end of stdin; infinite: asked to wait for ever."""
    interval: float | None = None
    """Between two lines sent, or two ports scanned."""
    stdin: bool = True
    stdout: bool = True
    shutdown: bool = False
    """TCP: tell the peer of the end of stdin."""
    crlf: bool = False
    broadcast: bool = False
    any_source: bool = False


class Talk(Protocol):
    """Where news goes: a slug, a sentence, and the addresses in it. `verbose` news is for those who ask."""

    def __call__(self, event: str, sentence: str, *, verbose: bool = False, **details: object) -> None: ...


class Trouble(Exception):
    """Ends the run: one sentence and an exit code."""

    def __init__(self, sentence: str, exit_code: int = WRONG) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


BINDING = {
    errno.EADDRINUSE: ("{where} is in use; `ss -{flag}lnp` shows by whom", WRONG),
    errno.EADDRNOTAVAIL: ("{where}: not an address of this host; `ip address` shows those", WRONG),
    errno.EACCES: ("{where}: ports below 1024 need root or CAP_NET_BIND_SERVICE", FORBIDDEN),
}
"""Why bind(2) fails, and what to do."""


def cannot_bind(error: OSError, address: str, port: int, *, udp: bool) -> Trouble:
    """The sentence for a failed bind(2)."""
    where = " ".join([address] * bool(address) + [f"port {port}"] * bool(port)) or "any address"
    sentence, code = BINDING.get(error.errno or 0, (f"{{where}}: {error.strerror}", WRONG))
    return Trouble(sentence.format(where=where, flag="u" if udp else "t"), code)
