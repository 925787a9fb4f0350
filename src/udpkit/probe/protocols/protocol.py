"""What a probe has to know of a protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from udpkit.probe.protocols.reading import Cursor, NotAnAnswer

LONGEST_ARGUMENT = 255
"""Bytes: what a DNS name, a RADIUS secret, a realm and a file name are content with."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A request that makes a service of this kind answer, and how to tell its answer.

    name: as in `--as NAME:ARGUMENT`. title: for people. ports: where such a service is usually found.
    request: 16 random bytes, from which identifiers and nonces are made, and the argument or None -> payload;
    raises ValueError with one line for a bad argument.
    recognise: request and reply -> a line that names the answer, or None if it is not an answer to this
    request. It never raises, and the line is safe to show.
    argument: what ARGUMENT means, None where there is none. quiet: why a live server may say nothing.
    other_port: the server answers from another port by design (TFTP, RFC 1350, section 4).
    """

    name: str
    title: str
    ports: tuple[int, ...]
    request: Callable[[bytes, str | None], bytes]
    recognise: Callable[[bytes, bytes], str | None]
    argument: str | None = None
    quiet: str | None = None
    other_port: bool = False


def protocol(
    name: str,
    title: str,
    ports: tuple[int, ...],
    ask: Callable[[bytes, str], bytes],
    read: Callable[[bytes, Cursor], str],
    *,
    argument: tuple[str, str] | None = None,
    quiet: str | None = None,
    other_port: bool = False,
) -> Protocol:
    """A Protocol out of its bare halves.

    ask: 16 random bytes and the argument, "" where none is taken -> payload. read: the request and the reply
    -> what the answer says; raises NotAnAnswer. argument: (its meaning, its default).
    """

    def request(unique: bytes, given: str | None) -> bytes:
        if given is None:
            return ask(unique, argument[1] if argument else "")
        if argument is None:
            raise ValueError(f"{name} takes no argument")
        if not given or not given.isprintable() or len(given.encode()) > LONGEST_ARGUMENT:
            raise ValueError(
                f"{name}: {given!a} cannot be the {argument[0]}: 1 to {LONGEST_ARGUMENT} bytes of text"
            )
        return ask(unique, given)

    def recognise(request: bytes, reply_untrusted: bytes) -> str | None:
        try:
            return f"{title}: {read(request, Cursor(reply_untrusted))}"
        except NotAnAnswer:
            return None

    meaning = f"{argument[0]}, default: {argument[1]}" if argument else None
    return Protocol(name, title, ports, request, recognise, meaning, quiet, other_port)


def never_answers(_request: bytes, _reply: Cursor) -> str:
    """The `read` of a protocol in which no server ever answers."""
    raise NotAnAnswer
