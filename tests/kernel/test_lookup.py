from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit.kernel.lookup import lookup, mismatch, score, unmapped

from .build import at, bound

PEER = "10.0.0.9:40000"

TAKEN = [  # local address, peer, where the datagram from PEER goes
    ("0.0.0.0:53", None, "10.0.0.1:53"),
    ("10.0.0.1:53", None, "10.0.0.1:53"),
    ("10.0.0.1:53", PEER, "10.0.0.1:53"),
    ("[::]:53", None, "10.0.0.1:53"),
    ("[::ffff:0.0.0.0]:53", None, "10.0.0.1:53"),
    ("[::ffff:10.0.0.1]:53", None, "10.0.0.1:53"),
    ("[::ffff:10.0.0.1]:53", "[::ffff:10.0.0.9]:40000", "10.0.0.1:53"),
]
NOT_TAKEN = [
    ("0.0.0.0:53", None, "10.0.0.1:54", "its port is 53"),
    ("10.0.0.1:53", None, "10.0.0.2:53", "its local address is 10.0.0.1"),
    ("[::ffff:10.0.0.1]:53", None, "10.0.0.2:53", "its local address is 10.0.0.1"),
    ("10.0.0.1:53", PEER, "10.0.0.2:53", "its local address is 10.0.0.1"),
    ("10.0.0.1:53", "10.0.0.9:40001", "10.0.0.1:53", "it is connected to 10.0.0.9:40001"),
    ("10.0.0.1:53", "10.0.0.8:40000", "10.0.0.1:53", "it is connected to 10.0.0.8:40000"),
    ("[fd00::1]:53", None, "10.0.0.1:53", "its local address is fd00::1"),
]
FROM_SIX = "[fd00::9]:40000"


@pytest.mark.parametrize(("local", "peer", "to"), TAKEN)
def test_a_socket_takes_what_contradicts_nothing_it_has_fixed(local, peer, to):
    assert mismatch(bound(local, peer), at(PEER), at(to)) is None


@pytest.mark.parametrize(("local", "peer", "to", "why"), NOT_TAKEN)
def test_a_socket_says_why_it_does_not_take_a_datagram(local, peer, to, why):
    assert mismatch(bound(local, peer), at(PEER), at(to)) == why


@pytest.mark.parametrize(
    ("local", "takes"),
    [
        ("[::]:53", True),
        ("[fd00::1]:53", True),
        ("[fd00::2]:53", False),
        ("0.0.0.0:53", False),
        ("[::ffff:0.0.0.0]:53", False),
    ],
)
def test_ipv6_reaches_only_sockets_that_have_ipv6(local, takes):
    assert (mismatch(bound(local), at(FROM_SIX), at("[fd00::1]:53")) is None) is takes


@pytest.mark.parametrize(
    "weakest_first",
    [
        ["[::]:53", "0.0.0.0:53", "10.0.0.1:53", ("10.0.0.1:53", PEER)],
        [
            "[::]:53",
            "[::ffff:10.0.0.1]:53",
            "10.0.0.1:53",
            ("[::ffff:10.0.0.1]:53", "[::ffff:10.0.0.9]:40000"),
        ],
    ],
)
def test_the_socket_that_has_fixed_most_wins_in_any_order(weakest_first):
    sockets = [bound(*((one,) if isinstance(one, str) else one)) for one in weakest_first]
    while sockets:
        assert {lookup(order, at(PEER), at("10.0.0.1:53")) for order in permutations(sockets)} == {
            sockets[-1]
        }
        sockets.pop()


def test_where_nothing_takes_it_there_is_none():
    assert lookup([], at(PEER), at("10.0.0.1:53")) is None
    assert lookup([bound("10.0.0.2:53"), bound("0.0.0.0:54")], at(PEER), at("10.0.0.1:53")) is None


def test_only_mapped_addresses_are_unmapped():
    assert str(unmapped(at("[::ffff:10.0.0.1]:1").address)) == "10.0.0.1"
    for other in ("10.0.0.1:1", "[fd00::1]:1", "[::]:1", "[::1]:1"):
        assert unmapped(at(other).address) == at(other).address


FOUR = st.sampled_from(["10.0.0.1:53", "10.0.0.2:53", "10.0.0.1:54", "10.0.0.9:40000"])
MAPPED = FOUR.map(lambda text: "[::ffff:{}]:{}".format(*text.split(":")))
SIX = st.sampled_from(["[fd00::1]:53", "[fd00::2]:53", "[fd00::9]:40000"])
WILDCARD = st.sampled_from(["0.0.0.0:53", "[::]:53", "[::]:54"])
SOCKET = st.one_of(  # no socket has a peer without a local address: connect(2) gives it one
    st.builds(bound, st.one_of(WILDCARD, FOUR, MAPPED, SIX)),
    st.builds(bound, FOUR, FOUR),
    st.builds(bound, MAPPED, MAPPED),
    st.builds(bound, SIX, SIX),
)
WAY = st.one_of(st.tuples(FOUR, FOUR), st.tuples(SIX, SIX)).map(lambda way: (at(way[0]), at(way[1])))


@given(st.lists(SOCKET, max_size=6), WAY)
def test_lookup_gives_a_taker_that_no_other_taker_outscores(sockets, way):
    source, _ = way
    takers = [socket for socket in sockets if mismatch(socket, *way) is None]
    taker = lookup(sockets, *way)
    assert (taker in takers) if takers else (taker is None)
    assert all(score(taker, source) >= score(other, source) for other in takers)


@given(SOCKET, WAY)
def test_mismatch_is_silent_exactly_where_the_socket_alone_would_be_found(socket, way):
    assert (mismatch(socket, *way) is None) == (lookup([socket], *way) is socket)


@given(SOCKET, WAY)
def test_the_socket_connected_to_the_sender_beats_every_other(socket, way):
    source, destination = way
    connected = bound(str(destination), str(source))
    assert score(lookup([socket, connected], *way), source) == score(connected, source)
