"""What ip(8) and rtnetlink(7) say, read without them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit.fixes.cgroup.addresses import changes_of
from udpkit.fixes.cgroup.tables import filling, split

ROUTES = {
    "default via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.9 metric 100 linkdown": (
        "main",
        False,
        "default via 10.0.0.1 dev eth0 metric 100",
    ),
    "10.0.0.0/24 dev eth0 table 1963397121 proto 117 scope link src 10.0.0.9": (
        "1963397121",
        True,
        "10.0.0.0/24 dev eth0 scope link",
    ),
    "fd00::/64 dev eth0 proto ra metric 1024 expires 1799sec pref medium": (
        "main",
        False,
        "fd00::/64 dev eth0 metric 1024 pref medium",
    ),
}
"""Lines of `ip route show table all`, and what becomes of them."""


@pytest.mark.parametrize("line", ROUTES)
def test_a_copy_of_a_route_has_what_does_not_depend_on_the_table(line: str) -> None:
    assert split(line.split()) == ROUTES[line]


def test_routers_come_after_the_networks_that_they_are_in_and_refusals_have_no_source() -> None:
    wanted = {"default via 10.0.0.1 dev eth0", "10.0.0.0/24 dev eth0 scope link", "blackhole 10.9.0.0/16"}
    assert filling(5, ip_address("10.0.0.9"), wanted, {"other"}) == [
        "route append 10.0.0.0/24 dev eth0 scope link src 10.0.0.9 table 5 proto 117",
        "route append blackhole 10.9.0.0/16  table 5 proto 117",
        "route append default via 10.0.0.1 dev eth0 src 10.0.0.9 table 5 proto 117",
    ]


def message(kind: int, *attributes: tuple[int, bytes], flags: int = 0) -> bytes:
    body = (
        bytes([0, 0, flags])
        + bytes(5)
        + b"".join(
            struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
            for number, value in attributes
        )
    )
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@given(st.binary(max_size=40))
def test_addresses_that_have_come_and_gone_are_told(tail: bytes) -> None:
    four, six = ip_address("192.0.2.1"), ip_address("fd00::1")
    news = (
        message(24, (2, four.packed))
        + message(20, (2, four.packed))
        + message(20, (1, six.packed), flags=0x40)  # which others may have (RFC 4862, 5.4)
        + message(21, (1, bytes(4)), (2, four.packed), (3, b"eth0\0"))
        + message(21, (1, six.packed))
    )
    told = [((four, 32), True), ((four, 32), False), ((six, 128), False)]
    assert [*changes_of(news)] == told
    assert [*changes_of(news + tail)][:3] == told


@given(st.binary(max_size=200))
def test_no_message_is_too_strange(news: bytes) -> None:
    assert len([*changes_of(news)]) <= len(news) // 24
