"""Why UDP does not get through on Linux, and what to do about it."""

TYPE_CHECKING = False  # for type checkers it is true; typing itself is not needed here

if TYPE_CHECKING:
    from udpkit.sockets import (
        AsyncSocket,
        Datagram,
        Endpoint,
        ErrorReport,
        NetworkError,
        Options,
        PacketInfoMixIn,
        PacketInfoSocket,
        Peer,
        PeerAddress,
        Prohibited,
        Refused,
        Socket,
        TruncatedControl,
        create_datagram_endpoint,
    )

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


def __getattr__(name: str) -> object:
    """The sockets, loaded when one is used: the verbs need none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from udpkit import sockets

    return getattr(sockets, name)
