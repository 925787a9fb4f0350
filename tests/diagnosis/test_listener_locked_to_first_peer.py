import pytest

from udpkit.fixes import advise

from .build import at, codes, findings, refused, sent, socket, tables

CODE = "listener-locked-to-first-peer"
WILDCARD, SERVER = "0.0.0.0:56789", "10.0.0.1:56789"
FIRST, SECOND = "10.0.0.3:40000", "10.0.0.4:41000"
WAITING, LOCKED = socket(WILDCARD), socket(SERVER, FIRST)
TALK = [sent(FIRST, SERVER), sent(SERVER, FIRST), sent(FIRST, SERVER), sent(SERVER, FIRST)]
SECOND_REFUSED = [sent(SECOND, SERVER), refused(SECOND, SERVER)]  # packets 5 and 6


def test_a_listener_locked_to_its_only_client_through_the_right_address_does_no_harm():
    assert codes(*TALK, tables=tables((0.5, [WAITING]), (1.5, [LOCKED]))) == []
    assert codes(*TALK, tables=tables((0.5, [WAITING]), (1.5, [LOCKED]), (9, []))) == []


def test_a_first_client_that_asks_another_address_can_be_helped_by_addresses():
    steps = [sent(FIRST, "10.9.0.1:56789"), refused(FIRST, "10.9.0.1:56789")]
    here = tables((0.5, [WAITING]), (0.7, [socket(SERVER, FIRST)]))
    [found] = findings(sent(FIRST, SERVER), *steps, tables=here).values()
    offered = {offer.id for offer in advise(found).fixes}
    assert {"bind", "attach"} <= offered
    assert "unconnected-server" not in offered


def test_what_others_say_to_other_ports_does_not_clear_a_lock():
    steps = [sent(SECOND, "10.0.0.5:53"), sent("10.0.0.5:53", SECOND)]
    [found] = findings(*steps, tables=tables((0.5, [WAITING]), (1.5, [LOCKED]))).values()
    assert (found.code, found.severity) == (CODE, "warning")


def test_a_table_of_other_ports_does_not_hide_what_a_capture_shows():
    asked, local = "10.9.0.1:7000", "10.0.0.1:7000"
    steps = [
        sent(FIRST, asked),
        sent(local, FIRST),
        refused(local, FIRST),
        sent(FIRST, asked),
        refused(FIRST, asked),
    ]
    assert (CODE, "warning") in codes(*steps)
    assert (CODE, "warning") in codes(*steps, tables=tables((0.5, [socket("0.0.0.0:53")])))
    assert CODE not in dict(codes(*steps, tables=tables((0.5, [socket("10.0.0.1:7000")]))))


def test_a_second_client_is_refused_by_the_lock():
    socket_tables = tables((0.5, [WAITING]), (1.5, [LOCKED]), (9, [LOCKED]))
    [found] = findings(*TALK, *SECOND_REFUSED, tables=socket_tables).values()
    assert (found.code, found.severity, found.count, found.process) == (CODE, "error", 1, "nc")
    assert (found.client, found.server, found.actual) == (at(SECOND), at(SERVER), at(SERVER))
    assert f"it is connected to {FIRST}" in found.why[2]
    assert [offer.id for offer in advise(found).fixes] == ["unconnected-server"]
    assert [(seen.source, seen.packet or seen.line) for seen in found.evidence] == [(1, 2), (2, 2), (0, 6)]


@pytest.mark.parametrize("when", [4.5, None])
def test_a_client_refused_after_a_healthy_listener_ended_was_not_locked_out(when):
    """`nc -ul` ends when its user is done: then nobody listens, which is no lock."""
    assert codes(*TALK, *SECOND_REFUSED, tables=tables((0.5, [WAITING]), (1.5, [LOCKED]), (when, []))) == []


def test_a_client_refused_before_the_listener_was_locked_is_none_of_its_victims():
    steps = [sent(SECOND, SERVER), refused(SECOND, SERVER), sent(FIRST, SERVER), sent(SERVER, FIRST)]
    assert codes(*steps, tables=tables((2.5, [WAITING]), (3.5, [LOCKED]))) == []


@pytest.mark.parametrize("inode", [7, None])
def test_a_server_with_a_socket_for_each_client_still_listens(inode):
    """`socat UDP-LISTEN:…,fork` connects the socket that it has and opens a new one to wait on."""
    other_address = "10.9.0.1:56789"
    waiting, child = socket(WILDCARD, inode=inode), socket(other_address, FIRST, inode=inode)
    listener = socket(WILDCARD, inode=inode and 8)
    for order in ([child, listener], [listener, child]):
        later = tables((0.5, [waiting]), (1.5, order))
        assert codes(sent(FIRST, SERVER), sent(SECOND, SERVER), tables=later) == []
        assert codes(tables=later) == []


def test_a_client_whose_socket_was_seen_between_bind_and_connect_is_no_listener():
    resolver = tables((1, [socket("0.0.0.0:40000")]), (2, [socket("10.0.0.9:40000", "10.0.0.1:53")]))
    assert codes(tables=resolver) == []


def test_tables_alone_give_a_warning():
    [found] = findings(tables=tables((None, [WAITING]), (None, [LOCKED]))).values()
    assert (found.code, found.severity, found.count) == (CODE, "warning", 1)
    assert (found.client, found.server, found.actual) == (at(FIRST), at(WILDCARD), at(SERVER))
    assert (found.first, found.last) == (None, None)
    assert [(seen.source, seen.line) for seen in found.evidence] == [(1, 2), (2, 2)]
    assert [step.split(" on the ")[0] for step in found.why] == [
        "__ip4_datagram_connect()",
        "__udp4_lib_lookup()",
    ]


@pytest.mark.parametrize(
    "moments",
    [
        [],
        [(1, [WAITING])],
        [(1, [LOCKED])],
        [(1, [LOCKED]), (2, [WAITING])],
        [(1, [WAITING]), (2, [WAITING]), (3, [])],
        [(1, [WAITING]), (2, [socket(SERVER, FIRST, inode=8)])],
        [(1, [socket(SERVER)]), (2, [LOCKED])],  # bound to the address it has: nothing was fixed
    ],
)
def test_tables_without_a_wildcard_socket_that_became_connected_tell_nothing(moments):
    assert codes(tables=tables(*moments)) == []


ACTUAL = "10.9.0.1:56789"
OUTSIDE = [
    sent(FIRST, SERVER),
    sent(ACTUAL, FIRST),
    refused(ACTUAL, FIRST),
    sent(FIRST, SERVER),
    refused(FIRST, SERVER),
]


def test_from_outside_the_first_datagram_must_have_been_accepted():
    refused_at_once = [OUTSIDE[0], refused(FIRST, SERVER), *OUTSIDE[1:]]
    assert CODE in dict(codes(*OUTSIDE))
    assert CODE not in dict(codes(*refused_at_once))


@pytest.mark.parametrize("left_out", [2, 4])
def test_from_outside_both_refusals_must_be_there(left_out):
    assert CODE not in dict(codes(*OUTSIDE[:left_out], *OUTSIDE[left_out + 1 :]))


def test_a_routers_error_is_no_refusal_of_the_host():
    assert CODE not in dict(codes(*OUTSIDE[:4], refused(FIRST, SERVER, by="10.0.0.254")))
    by_router = [*TALK, sent(SECOND, SERVER), refused(SECOND, SERVER, by="10.0.0.254")]
    assert CODE not in dict(codes(*by_router, tables=tables((0.5, [WAITING]), (1.5, [LOCKED]))))


def test_a_capture_alone_shows_one_client_answered_before_and_after_another_is_refused():
    [one] = findings(*TALK[:2], sent(SECOND, SERVER), refused(SECOND, SERVER), *TALK[2:]).values()
    assert (one.code, one.severity, one.count) == (CODE, "warning", 1)
    assert (one.client, one.server, one.actual) == (at(SECOND), at(SERVER), None)
    assert f"though it answered {FIRST} before and after" in one.summary
    assert [seen.packet for seen in one.evidence] == [2, 3, 4, 6]


THIRD = "10.0.0.5:42000"
NO_LOCK = {
    "a server that has ended": [*TALK, *SECOND_REFUSED],
    "a server that started later": [*SECOND_REFUSED, *TALK],
    "one that was away for its first client as well": [
        *TALK[:2],
        *SECOND_REFUSED,
        sent(FIRST, SERVER),
        refused(FIRST, SERVER),
        *TALK[2:],
    ],
    "one that answers a third client": [
        *TALK[:2],
        sent(THIRD, SERVER),
        sent(SERVER, THIRD),
        *SECOND_REFUSED,
        *TALK[2:],
    ],
    "one that then answers the second client, too": [
        *TALK[:2],
        *SECOND_REFUSED,
        *TALK[2:],
        sent(SECOND, SERVER),
        sent(SERVER, SECOND),
    ],
    "a name server": [
        sent(FIRST, "10.0.0.1:53"),
        sent("10.0.0.1:53", FIRST),
        sent(SECOND, "10.0.0.1:53"),
        refused(SECOND, "10.0.0.1:53"),
        sent("10.0.0.1:53", FIRST),
    ],
}


@pytest.mark.parametrize("steps", NO_LOCK.values(), ids=NO_LOCK)
def test_no_lock_in_a_capture(steps):
    assert CODE not in dict(codes(*steps))


def test_a_table_with_the_port_knows_better_than_a_capture():
    steps = [*TALK[:2], *SECOND_REFUSED, *TALK[2:]]
    assert CODE not in dict(codes(*steps, tables=tables((0.5, [socket(SERVER)]))))
