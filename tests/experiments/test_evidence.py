"""What experiments see of a program's calls, and of a host's loopback."""

from __future__ import annotations

import pytest

from udpkit.lab.play import udp_calls
from udpkit.lab.reading import built_in, parse
from udpkit.lab.run import run

SOCKETS = {
    "IPv4": "UDP:[192.0.2.2:5000->192.0.2.1:7000]",
    "IPv6": "UDPv6:[[2001:db8::2]:5000->[2001:db8::1]:7000]",
    "IPv6, unconnected": "UDPv6:[[::]:5000]",
    "without an address": "UDPv6:[18666201]",
}


@pytest.mark.parametrize("name", SOCKETS.values(), ids=SOCKETS)
def test_calls_are_told_without_the_addresses_of_their_sockets(name: str) -> None:
    log = f'16    1795286756.231618 sendto(3<{name}>, "[a]>\\n", 5, 0, NULL, 0) = 5\n'
    assert udp_calls(log) == ['sendto(3, "[a]>\\n", 5, 0, NULL, 0) = 5']


def test_what_a_host_tells_itself_can_be_captured() -> None:
    text = built_in()["one-address-nc"].read_text()
    before, _, after = text.replace('["server.eth0"]', '["client.lo"]').partition("    { do = ")
    command = '    { do = "command", on = "client", run = "echo hello | nc -u -w1 127.0.0.1 7000" },\n'
    result = run(parse("mine", before + command + after[after.index("]\n\n[values]") :], {}))
    assert result.played is not None
    assert len(result.played.messages) == 2  # the datagram, and its refusal
