"""One reader per kind of source: bytes, text or kernel tables in, facts out."""

from udpkit.evidence.owners import socket_owners
from udpkit.evidence.pcap import read_pcap
from udpkit.evidence.proc_net import proc_net_udp, proc_net_waiting_ports

__all__ = ["proc_net_udp", "proc_net_waiting_ports", "read_pcap", "socket_owners"]
