"""What was seen: value types, shared by every room. Imports nothing of ours and does no I/O."""

from udpkit.facts.calls import Calls, TracedSocket
from udpkit.facts.case import Case, Source
from udpkit.facts.conversation import Conversation, Errors, Flow, Moment
from udpkit.facts.drops import Drops
from udpkit.facts.endpoint import Address, Endpoint, NamedIPv4, NamedIPv6, Network
from udpkit.facts.host import HostState, LocalAddress, SourceChoice, StaleEntry
from udpkit.facts.packets import Datagram, IcmpError
from udpkit.facts.reference import Reference
from udpkit.facts.tables import SocketEntry, SocketTable

__all__ = [
    "Address",
    "Calls",
    "Case",
    "Conversation",
    "Datagram",
    "Drops",
    "Endpoint",
    "Errors",
    "Flow",
    "HostState",
    "IcmpError",
    "LocalAddress",
    "Moment",
    "NamedIPv4",
    "NamedIPv6",
    "Network",
    "Reference",
    "SocketEntry",
    "SocketTable",
    "Source",
    "SourceChoice",
    "StaleEntry",
    "TracedSocket",
]
