"""Capturing what crosses a link, into memory."""

from __future__ import annotations

import errno
import socket
import struct
from pathlib import Path

from udpkit.lab.errors import LabError

ETH_P_ALL = 0x0003  # linux/if_ether.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
SO_TIMESTAMPNS = 35
SOL_PACKET = 263  # bits/socket.h
PACKET_OUTGOING = 4
PACKET_STATISTICS = 6  # linux/if_packet.h

BUFFER = 16 << 20
"""Bytes that the kernel keeps for us between two reads; the lab's exchanges are a few packets."""
MOST_WAITING = 2 * BUFFER // 512
"""Packets that fit: the kernel takes the buffer twice (socket(7)), and of it no less for any packet."""

SNAPLEN = 1 << 18
"""Bytes kept of a packet: more than any has (tcpdump's own default)."""

PCAP_HEADER = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAPLEN, 1)
"""Classic pcap with nanosecond timestamps, link type Ethernet (pcap-savefile(5))."""


class Capture:
    """What crossed an interface since the capture was opened, in both directions, as a pcap file in memory.

    The packets wait in the kernel until somebody looks: no thread, no helper program.
    """

    def __init__(self, packet_socket: socket.socket, name: str, interface: str) -> None:
        self.name = name
        """`host.interface`."""
        self._dropped = 0
        self._pcap = bytearray(PCAP_HEADER)
        self._socket = packet_socket
        self._socket.setblocking(False)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        except PermissionError:  # wants root outside the lab; a few hundred packets fit even so
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind((interface, ETH_P_ALL))

    def descriptors(self) -> list[int]:
        return [self._socket.fileno()]

    def drain(self) -> None:
        """Take in what has come. What comes meanwhile may be for the next time: floods have no end."""
        try:
            for _ in range(MOST_WAITING):
                packet, control, flags, address = self._receive()
                if flags & socket.MSG_CTRUNC or not control:
                    raise LabError(f"the capture on {self.name} got a packet without a timestamp")
                if address[0] == "lo" and address[2] == PACKET_OUTGOING:
                    continue  # it comes back as an incoming one
                seconds, nanoseconds = struct.unpack("@ll", control[0][2])
                self._pcap += struct.pack("=IIII", seconds, nanoseconds, len(packet), len(packet)) + packet
        except BlockingIOError:
            return

    def _receive(self) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int, int]]:
        try:
            return self._socket.recvmsg(SNAPLEN, 64, socket.MSG_TRUNC)
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            return self._receive()  # said once when the interface goes down; what came before is still there

    def pcap(self) -> bytes:
        """The capture so far, as the bytes of a pcap file. Raises LabError if the kernel dropped any."""
        self.drain()
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self._dropped += struct.unpack("=II", statistics)[1]  # the kernel counts from one look to the next
        if self._dropped:
            raise LabError(f"the capture on {self.name} lost {self._dropped} packets: its buffer was full")
        return bytes(self._pcap)

    def save(self, path: str | Path) -> None:
        """Write the capture so far to a file."""
        Path(path).write_bytes(self.pcap())

    def close(self) -> None:
        self._socket.close()
