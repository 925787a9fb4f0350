"""Patterns that no line can fit are told from those that some line fits."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit.facts import Datagram, Endpoint, IcmpError, Reference, SocketEntry
from udpkit.kernel.icmp import KINDS
from udpkit.lab import impossible
from udpkit.lab.addresses import Addresses
from udpkit.lab.impossible import CALLS, Hosts
from udpkit.lab.patterns import fits
from udpkit.lab.play import socket_line
from udpkit.lab.sequence import line

HOSTS = Hosts(
    Addresses.of(["10.0.0.1/24", "2001:db8::1/64"], ["talk ask 10.0.0.2 7000"], engines=False),
    {"server": ["10.0.0.1", "2001:db8::1"], "client": []},
)
ANYWHERE = Hosts(Addresses.of([], [], engines=True), {})

MESSAGES = {
    "an arrow": ("10.0.0.2:* -> 10.0.0.1:7000 UDP hi", "a > b"),
    "an arrow before a star": ("10.0.0.2:* -> *", "a:p > b:q UDP payload"),
    "no kind": ("10.0.0.2:* > 10.0.0.1:7000 hi", "UDP, ICMP or ICMPv6"),
    "no kind and no payload": ("10.0.0.2:* > 10.0.0.1:7000", "UDP, ICMP or ICMPv6"),
    "small letters": ("10.0.0.2:* > 10.0.0.1:* udp hi", "UDP, ICMP or ICMPv6"),
    "TCP": ("10.0.0.2:* > 10.0.0.1:* TCP hi", "UDP, ICMP or ICMPv6"),
    "no payload": ("10.0.0.2:* > 10.0.0.1:7000 UDP", "UDP *"),
    "no ends": ("UDP hi*", "a:p > b:q UDP payload"),
    "nothing": ("", "a:p > b:q UDP payload"),
    "one end": ("10.0.0.2:5000 UDP hi", "a > b"),
    "three ends": ("10.0.0.2:* > 10.0.0.3:* > 10.0.0.1:* UDP hi", "a > b"),
    "two spaces": ("10.0.0.2:*  > 10.0.0.1:* UDP hi", "a > b"),
    "no port": ("10.0.0.2 > 10.0.0.1:7000 UDP hi", "it lacks its port: 10.0.0.2:*"),
    "no port in IPv6": ("2001:db8::1 > [2001:db8::1]:7000 UDP hi", "[2001:db8::1]:*"),
    "no brackets": ("2001:db8::1:7000 > [2001:db8::1]:7000 UDP hi", "in brackets: [2001:db8::1]:7000"),
    "no brackets, any port": ("2001:db8::1:* > [2001:db8::1]:7000 UDP hi", "in brackets: [2001:db8::1]:*"),
    "brackets of IPv4": ("[10.0.0.2]:* > 10.0.0.1:7000 UDP hi", "10.0.0.2"),
    "port beyond the last": ("10.0.0.2:* > 10.0.0.1:70000 UDP hi", "70000"),
    "port by name": ("10.0.0.2:* > 10.0.0.1:domain UDP hi", "domain"),
    "unknown address": ("10.0.0.22:* > 10.0.0.1:7000 UDP hi", "did you mean 10.0.0.2"),
    "unknown address before any": ("10.0.0.22:* > *", "did you mean 10.0.0.2"),
    "no address": ("10.0.0.256:* > 10.0.0.1:7000 UDP hi", "10.0.0.256:*"),
    "host": ("10.0.0.2:* > server:7000 UDP hi", "10.0.0.1:7000 or [2001:db8::1]:7000"),
    "host and interface": ("10.0.0.2:* > server.eth0:7000 UDP hi", "10.0.0.1:7000"),
    "host before any": ("server:* > *", "10.0.0.1:* or [2001:db8::1]:*"),
    "host without an address": ("client:* > 10.0.0.1:7000 UDP hi", "client:*"),
    "part of a name": ("clien*:* > 10.0.0.1:7000 UDP hi", "clien*"),
    "placeholder": ("{Client}:* > 10.0.0.1:7000 UDP hi", "{Client}:*"),
    "long spelling": ("[2001:0db8::1]:* > [2001:db8::1]:7000 UDP hi", "is written 2001:db8::1"),
    "misspelt error": ("10.0.0.1 > 10.0.0.2 ICMP port unreachabel (*)", "did you mean port unreachable"),
    "misspelt error, quotes left out": ("10.0.0.1 > 10.0.0.2 ICMP prot*", None),  # protocol unreachable
    "error of tcpdump's": ("10.0.0.1 > 10.0.0.2 ICMP udp port*", "host unreachable"),
    "error of the other version": (
        "2001:db8::1 > 2001:db8::1 ICMPv6 host unreachable (*)",
        "address unreachable",
    ),
    "ICMP over IPv6": ("2001:db8::1 > 2001:db8::1 ICMP port unreachable (*)", "ICMPv6"),
    "ICMPv6 over IPv4": ("10.0.0.1 > 10.0.0.2 ICMPv6 port unreachable (*)", "IPv4 is ICMP"),
    "error with ports": ("10.0.0.1:7000 > 10.0.0.2:* ICMP port unreachable (*)", "no ports: 10.0.0.1"),
    "error that quotes nothing": ("10.0.0.1 > 10.0.0.2 ICMP port unreachable", "(c:p > d:q)"),
    "error without a space": ("10.0.0.1 > 10.0.0.2 ICMP port unreachable(*)", "one space"),
    "quotes without ports": (
        "10.0.0.1 > 10.0.0.2 ICMP port unreachable (10.0.0.2 > 10.0.0.1)",
        "10.0.0.2:*",
    ),
    "quotes that do not end": (
        "10.0.0.1 > 10.0.0.2 ICMP port unreachable (10.0.0.2:5 > 10.0.0.1:7000",
        "ends with )",
    ),
}


@pytest.mark.parametrize(("pattern", "right"), MESSAGES.values(), ids=MESSAGES)
def test_what_no_capture_shows_is_told_with_what_would_be_right(pattern: str, right: str | None) -> None:
    wrong = HOSTS.message(pattern)
    assert wrong is None if right is None else wrong and right in wrong


POSSIBLE = [
    *("*", "*hi", "10.0.0.2:*hi", "10.0.0.2:* hi", "10.0.0.* > * UDP hi", "*:7000 UDP hi", "* UDP a > b"),
    *("*ICMP port unreachable*", "* ICMP *", "10.0.0.2:* > *", "10.0.0.2:* > 10.0.0.1:* hi", "10.0.0.1 > *"),
    *(
        "10.0.0.2:* > 255.255.255.255:7000 UDP ICMP x (y",
        "10.0.0.2:* > 10.0.0.255:7000 UDP ",
        "1*:7* > * UDP *",
    ),
    *("[fe80::*]:* > [ff02::1]:5353 UDP *", "fe80::* > * ICMPv6 *", "127.0.0.1:* > 127.0.0.1:* UDP x"),
    *("10.0.0.1 > 10.0.0.2 ICMP port* (*)", "10.0.0.1 > 10.0.0.2 ICMP type 3 code 99 (*)"),
    "10.0.0.1 > 10.0.0.2 ICMP port unreachable (10.0.0.2:* > *",
]


@pytest.mark.parametrize("pattern", POSSIBLE)
def test_what_a_capture_may_show_is_not_blamed(pattern: str) -> None:
    assert HOSTS.message(pattern) is None


CALLED = {
    "the C library's name": ("send(3, *) = 6", "did you mean sendto"),
    "misspelt": ("recfrom(3, *)", "did you mean recvfrom"),
    "without a socket": ("socket(AF_INET, *) = 3", "socket"),
    "misspelt before a star": ("recfrom*", "recvfrom"),
    "no call": ("hello", "name(arguments) = result"),
    "no descriptor": ("connect({sa_family=AF_INET, *", "connect(3, "),
    "unknown error": ("connect(*) = -1 ECONREFUSED*", "did you mean ECONNREFUSED"),
    "error without words": ("sendto(*) = -1 ECONNREFUSED", "ECONNREFUSED*"),
}


@pytest.mark.parametrize(("pattern", "right"), CALLED.values(), ids=CALLED)
def test_what_strace_never_says_is_told(pattern: str, right: str) -> None:
    assert right in (impossible.call(pattern) or "")


@pytest.mark.parametrize(
    "pattern",
    ["*", "send*", "connect*", "*ECONNREFUSED*", 'sendto(3, "x"*', "connect(* = -1 EACCES (P*", "c*(3)*"],
)
def test_what_strace_may_say_is_not_blamed(pattern: str) -> None:
    assert impossible.call(pattern) is None


SOCKETS = {
    "bare": ("10.0.0.1:7000", "a:p unconnected"),
    "misspelt": ("10.0.0.1:7000 unconected", "a:p unconnected"),
    "no port": ("10.0.0.1 unconnected", "10.0.0.1:*"),
    "another arrow": ("10.0.0.1:7000 > 10.0.0.2:*", "a:p connected to b:q"),
    "unknown peer": ("10.0.0.1:7000 connected to 10.0.0.22:*", "did you mean 10.0.0.2"),
}


@pytest.mark.parametrize(("pattern", "right"), SOCKETS.values(), ids=SOCKETS)
def test_what_no_table_has_is_told(pattern: str, right: str) -> None:
    assert right in (HOSTS.socket(pattern) or "")


@pytest.mark.parametrize(
    "pattern",
    ["*", "0.0.0.0:*", "*:7000*", "* unconnected", "[::]:53 *", "10.0.0.1:7 conn*", "*:5 connected to *"],
)
def test_what_a_table_may_have_is_not_blamed(pattern: str) -> None:
    assert HOSTS.socket(pattern) is None


def test_what_talk_tells_of_errors() -> None:
    assert "did you mean ECONNREFUSED" in (impossible.told("send: ECONREFUSED") or "")
    assert impossible.told("queue: EHOSTUNREACH from 10.0.0.1 type 3 code 1*") is None
    assert impossible.told("send: E*") is None
    assert impossible.printed("one\ntwo") is not None
    assert impossible.printed("one*two") is None


ENDPOINTS = [st.builds(Endpoint, st.ip_addresses(v=version), st.integers(0, 65535)) for version in (4, 6)]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
KINDS_OF = {version: sorted(kind[1:] for kind in KINDS if kind[0] == version) for version in (4, 6)}


@st.composite
def messages(draw: st.DrawFn) -> Datagram | IcmpError:
    version = draw(st.sampled_from([4, 6]))
    asker, asked = draw(ENDPOINTS[version == 6]), draw(ENDPOINTS[version == 6])
    if draw(st.booleans()):
        return Datagram(Reference(0), 0, asker, asked, 1, draw(TEXTS).encode())
    kind = draw(st.sampled_from(KINDS_OF[version]))
    return IcmpError(Reference(0), 0, asked.address, asker.address, *kind, asker, asked)


@st.composite
def globbed(draw: st.DrawFn, text: str) -> str:
    """The text with a `*` for a part of a word, for its beginning or for its end."""
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    if " " in text[first:last] and draw(st.booleans()):
        first = 0
    elif " " in text[first:last]:
        last = len(text)
    return f"{text[:first]}*{text[last:]}"


@given(st.data(), messages())
def test_the_line_of_a_message_is_never_blamed(data: st.DataObject, message: Datagram | IcmpError) -> None:
    text = line(message)
    assert ANYWHERE.message(text) is None
    pattern = data.draw(globbed(f"{text.partition(' UDP ')[0]} UDP *" if " UDP " in text else text))
    assert fits(pattern, text)
    assert ANYWHERE.message(pattern) is None


@given(st.data(), st.sampled_from(ENDPOINTS).flatmap(lambda one: st.tuples(one, st.none() | one)))
def test_the_line_of_a_socket_is_never_blamed(
    data: st.DataObject, ends: tuple[Endpoint, Endpoint | None]
) -> None:
    text = socket_line(SocketEntry(Reference(0), ends[0], ends[1], inode=1))
    assert ANYWHERE.socket(text) is None
    assert ANYWHERE.socket(data.draw(globbed(text))) is None


@given(st.text("10.:[]*> UDPICMv6()_=abcE", max_size=40), st.sampled_from(CALLS))
def test_any_text_is_judged(text: str, name: str) -> None:
    for judge in (HOSTS.message, HOSTS.socket, HOSTS.endpoint, impossible.call):
        assert judge(text) != ""
    assert impossible.call(f"{name}(3) = 0") is None


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("ip address add 192.0.2.7/24 dev eth0", "192.0.2.7"),
        ("socat - UDP4:192.0.2.7:7000", "192.0.2.7"),
        ("socat - UDP6:[fd00::7]:7000", "fd00::7"),
        ("talk ask ::ffff:192.0.2.7 7000", "192.0.2.7"),
        ("talk ask 192.0.2.7 7000", "::ffff:192.0.2.7"),
        ("iptables -t nat -A PREROUTING -j NETMAP --to 192.0.2.0/24", "192.0.2.7"),
        ("iptables -t nat -A POSTROUTING -j SNAT --to-source 192.0.2.5-192.0.2.9", "192.0.2.7"),
        ("for n in 6 7; do ip address add 192.0.2.$n/24 dev eth0; done", "192.0.2.7"),
        ("for n in 6 7; do ip address add fd00::$n/64 dev eth0; done", "fd00::7"),
        ("python3 -c 'ask(f\"192.0.2.{n}\")'", "192.0.2.7"),
        ("dnsmasq --dhcp-range=192.0.2.5,192.0.2.9", "192.0.2.7"),
        ("", "10.0.0.255"),
        ("", "224.0.0.1"),
        ("", "fe80::1"),
    ],
)
def test_addresses_that_a_file_leaves_to_its_programs_are_not_blamed(line: str, address: str) -> None:
    addresses = Addresses.of(["10.0.0.1/24"], [line], engines=False)
    assert addresses.may_be(ip_address(address))
    assert not Addresses.of(["10.0.0.1/24"], ["ip route add 192.0.2.8"], engines=False).may_be(
        ip_address("192.0.2.7")
    )
