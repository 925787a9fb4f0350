"""One reader per kind of source: bytes, text or kernel tables in, facts out."""

from udpkit.evidence.captures import Evidence, UnreadableError, open_evidence, read_captures
from udpkit.evidence.owners import socket_owners
from udpkit.evidence.pcap import read_pcap
from udpkit.evidence.proc_net import proc_net_udp, proc_net_waiting_ports
from udpkit.evidence.socket_tables import is_sockets, read_socket_text
from udpkit.evidence.strace import read_strace

__all__ = [
    "Evidence",
    "UnreadableError",
    "is_sockets",
    "open_evidence",
    "proc_net_udp",
    "proc_net_waiting_ports",
    "read_captures",
    "read_pcap",
    "read_socket_text",
    "read_strace",
    "socket_owners",
]
