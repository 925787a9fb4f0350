"""What was seen: value types, shared by every room. Imports nothing of ours and does no I/O."""

from udpkit.facts.case import Case, Source
from udpkit.facts.endpoint import Address, Endpoint, Network
from udpkit.facts.packets import Datagram, IcmpError
from udpkit.facts.reference import Reference
from udpkit.facts.tables import SocketEntry, SocketTable

__all__ = [
    "Address",
    "Case",
    "Datagram",
    "Endpoint",
    "IcmpError",
    "Network",
    "Reference",
    "SocketEntry",
    "SocketTable",
    "Source",
]
