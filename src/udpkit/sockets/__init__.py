"""UDP sockets that answer from the address that was asked."""

from udpkit.sockets.socket import Datagram, Socket, TruncatedControl

__all__ = ["Datagram", "Socket", "TruncatedControl"]
