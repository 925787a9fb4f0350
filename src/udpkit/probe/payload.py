"""What is sent to a port, and to whom it speaks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from udpkit.probe.protocols import LINE, Protocol, for_port


@dataclass(frozen=True, slots=True)
class Payload:
    """A request of a protocol, as it is sent."""

    protocol: Protocol
    data: bytes

    def name(self, answer_untrusted: bytes) -> str | None:
        """What kind of answer it is, if it is one."""
        return self.protocol.recognise(self.data, answer_untrusted)


def payload_for(port: int) -> Payload:
    """What the service that has this port by custom answers to; a line of text where none is known."""
    return payload_of(for_port(port))


def payload_of(protocol: Protocol, argument: str | None = None) -> Payload:
    """A request of this protocol. Raises ValueError if the argument is not one."""
    if protocol is LINE:
        return LINE_PAYLOAD
    return Payload(protocol, protocol.request(os.urandom(16), argument))


def payload_of_bytes(data: bytes) -> Payload:
    """Bytes of one's own."""
    return Payload(replace(LINE, name="payload"), data)


LINE_PAYLOAD = Payload(LINE, LINE.request(b"", None))
