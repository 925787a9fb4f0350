"""What the kernel drops, or may not drop, without its being what it looks like, on lab hosts."""

from __future__ import annotations

import json
import socket

import pytest

from cli.command import TIMEOUT
from cli.test_watch import drops_are_told, root, watch
from udpkit.lab import Lab, ProgramMissing

pytestmark = root


def test_a_rejection_is_no_silent_drop_and_a_loose_filter_drops_nothing() -> None:
    """REJECT ends in the verdict DROP, too; but it has answered.

    A drop is known by its addresses wherever on the machine it is: no other test may use the same ports.
    """
    if reason := drops_are_told():
        pytest.skip(f"the kernel does not tell here: {reason}")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        for link, net in (("eth0", "192.0.2"), ("eth1", "198.51.100")):
            lab.link(server, link, client, link)
            server.address(link, f"{net}.1/24")
            client.address(link, f"{net}.2/24")
        server.sysctl("net.ipv4.conf.all.rp_filter", 2)
        client.sysctl("net.ipv4.conf.all.arp_announce", 2)
        try:
            server.shell(
                "iptables -A INPUT -p udp --dport 5103 -j REJECT --reject-with icmp-admin-prohibited"
            )
        except ProgramMissing as missing:
            pytest.skip(str(missing))
        with (
            server.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering,
            client.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
            watch(server, "--duration", "4s") as running,
        ):
            answering.bind(("198.51.100.1", 5104))
            asking.bind(("192.0.2.2", 4101))
            asking.sendto(b"by the other interface", ("198.51.100.1", 5104))
            data, peer = answering.recvfrom(99)
            answering.sendto(data, peer)
            asking.sendto(b"rejected", ("192.0.2.1", 5103))
            told = running.process.communicate(timeout=TIMEOUT)[0].splitlines()
    codes = {finding["code"] for line in told for finding in json.loads(line)["findings"]}
    assert codes == {"prohibited"}
