from ipaddress import ip_address

import pytest

from udpkit.facts import Endpoint, Reference


@pytest.mark.parametrize(
    ("address", "text"), [("172.16.13.13", "172.16.13.13:53"), ("fd00::1", "[fd00::1]:53"), ("::", "[::]:53")]
)
def test_an_endpoint_reads_as_in_a_url(address, text):
    assert str(Endpoint(ip_address(address), 53)) == text


def test_equal_endpoints_are_one_key():
    assert len({Endpoint(ip_address("10.0.0.1"), 53), Endpoint(ip_address("10.0.0.1"), 53)}) == 1


def test_a_reference_says_packet_or_line():
    assert str(Reference(0, packet=2)) == "packet 2"
    assert str(Reference(0, line=7)) == "line 7"
