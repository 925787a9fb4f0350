"""UDP sockets that answer from the address that was asked, and hear what became of what they sent."""

from typing import TYPE_CHECKING

from udpkit._native import Datagram
from udpkit.facts import Endpoint
from udpkit.sockets.errors import ErrorReport, NetworkError, Prohibited, Refused, TruncatedControl
from udpkit.sockets.opening import Options, Peer
from udpkit.sockets.packet_info import PacketInfoMixIn, PacketInfoSocket, PeerAddress
from udpkit.sockets.socket import Socket

if TYPE_CHECKING:
    from udpkit.sockets.asynchronous import AsyncSocket
    from udpkit.sockets.datagram_endpoint import create_datagram_endpoint

__all__ = [
    "AsyncSocket",
    "Datagram",
    "Endpoint",
    "ErrorReport",
    "NetworkError",
    "Options",
    "PacketInfoMixIn",
    "PacketInfoSocket",
    "Peer",
    "PeerAddress",
    "Prohibited",
    "Refused",
    "Socket",
    "TruncatedControl",
    "create_datagram_endpoint",
]

_LAZY = {"AsyncSocket": "asynchronous", "create_datagram_endpoint": "datagram_endpoint"}
"""What needs asyncio or anyio is imported when it is used: both take longer to load than all the rest."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
