"""A client behind docker0 asks the host by its other address."""

from dataclasses import replace

import pytest

from .build import SECOND, at, capture, codes, findings, refused, sent, socket, tables

FOUR = ("172.17.0.3:38908", "172.16.13.13:56789", "172.17.0.1:56789", "0.0.0.0:56789")
SIX = ("[fd01::3]:38908", "[fd00::13]:56789", "[fd01::1]:56789", "[::]:56789")
NAMES = {
    4: (
        "__ip4_datagram_connect()",
        "__udp4_lib_lookup()",
        "icmp_send()",
        "udp_err()",
        "ip_route_output_flow()",
    ),
    6: (
        "__ip6_datagram_connect()",
        "__udp6_lib_lookup()",
        "icmpv6_send()",
        "udpv6_err()",
        "ip6_dst_lookup_flow()",
    ),
}
OTHER, LOCKED = "reply-from-other-address", "listener-locked-to-first-peer"


def story(client, asked, actual):
    return [
        sent(client, asked),
        sent(actual, client),
        refused(actual, client),
        sent(client, asked),
        refused(client, asked),
    ]


def before_locked_gone(client, actual, wildcard, gone_at=3.5):
    moments = [(0.5, [socket(wildcard)]), (1.5, [socket(actual, client)]), (gone_at, [])]
    return tables(*moments)


@pytest.fixture(params=[FOUR, SIX], ids=["IPv4", "IPv6"])
def ends(request):
    return request.param


def packets(finding):
    return [seen.packet for seen in finding.evidence if seen.packet]


def lines(finding):
    return [(seen.source, seen.line) for seen in finding.evidence if seen.line]


def steps(finding, *functions):
    """The steps of `why`, after it was checked that they begin with these functions, in this order."""
    assert [step.split(" on the ")[0] for step in finding.why] == list(functions)
    return finding.why


def test_a_capture_alone_shows_the_wrong_address_and_a_listener_that_may_be_locked(ends):
    client, asked, actual, _ = ends
    connect, lookup, refuse, hear, route = NAMES[at(client).address.version]
    found = findings(*story(client, asked, actual))
    assert set(found) == {OTHER, LOCKED}
    for finding in found.values():
        assert (finding.client, finding.server, finding.actual) == (at(client), at(asked), at(actual))
        assert (finding.count, finding.process) == (1, None)
    assert (found[OTHER].severity, found[LOCKED].severity) == ("error", "warning")
    assert (found[OTHER].first, found[OTHER].last) == (2_000_000_000, 2_000_000_000)
    assert packets(found[OTHER]) == [1, 2, 3]
    assert packets(found[LOCKED]) == [1, 2, 5]
    steps(found[OTHER], route, lookup, refuse, hear)
    steps(found[LOCKED], lookup, connect, refuse)


def test_socket_tables_show_the_lock_and_that_it_ended_before_the_second_request(ends):
    client, asked, actual, wildcard = ends
    connect, lookup, refuse, hear, _ = NAMES[at(client).address.version]
    found = findings(*story(client, asked, actual), tables=before_locked_gone(client, actual, wildcard))
    assert set(found) == {OTHER, LOCKED}
    assert {finding.severity for finding in found.values()} == {"error"}
    assert {finding.process for finding in found.values()} == {"nc"}
    assert (found[LOCKED].client, found[LOCKED].server) == (at(client), at(asked))
    assert (found[LOCKED].actual, found[LOCKED].count) == (at(actual), 1)
    assert (packets(found[OTHER]), lines(found[OTHER])) == ([1, 2, 3], [(2, 2)])
    assert (packets(found[LOCKED]), lines(found[LOCKED])) == ([5], [(1, 2), (2, 2)])
    steps(found[OTHER], connect, lookup, refuse, hear)
    why = steps(found[LOCKED], lookup, connect, hear, lookup, refuse, hear)
    assert "no socket any more" in why[3]


def test_a_lock_that_is_still_alive_refuses_by_itself(ends):
    client, asked, actual, wildcard = ends
    connect, lookup, refuse, hear, _ = NAMES[at(client).address.version]
    socket_tables = before_locked_gone(client, actual, wildcard, gone_at=9)
    locked = findings(*story(client, asked, actual), tables=socket_tables)[LOCKED]
    why = steps(locked, lookup, connect, lookup, refuse, hear)
    assert f"its local address is {at(actual).address}" in why[2]


def test_a_dual_stack_listener_is_the_same_story_in_ipv4():
    client, asked, actual, _ = FOUR
    mapped = before_locked_gone("[::ffff:172.17.0.3]:38908", "[::ffff:172.17.0.1]:56789", "[::]:56789")
    found = findings(*story(client, asked, actual), tables=mapped)
    connect, lookup, refuse, hear, _ = NAMES[4]
    assert found[LOCKED].actual == at(actual)
    assert found[OTHER].process == "nc"
    steps(found[OTHER], connect, lookup, refuse, hear)


def test_an_unconnected_client_gets_the_reply_from_a_stranger(ends):
    client, asked, actual, _ = ends
    _, lookup, _, _, route = NAMES[at(client).address.version]
    [found] = findings(
        sent(client, asked), sent(actual, client), sent(client, asked), sent(actual, client)
    ).values()
    assert (found.code, found.severity, found.count) == (OTHER, "warning", 2)
    assert (found.first, found.last) == (2_000_000_000, 4_000_000_000)
    assert packets(found) == [1, 2, 4]
    steps(found, route, lookup)


def test_before_the_reply_there_is_nothing_to_find(ends):
    client, asked, actual, wildcard = ends
    whole = story(client, asked, actual)
    assert codes(whole[0], tables=tables((0.5, [socket(wildcard)]))) == []
    assert codes(*whole[:2]) == [(OTHER, "warning")]
    assert codes(*whole[:4]) == [(OTHER, "error")]


def test_the_lock_is_found_even_before_it_did_harm():
    client, asked, actual, wildcard = FOUR
    locked = findings(sent(client, asked), tables=before_locked_gone(client, actual, wildcard)[:2])[LOCKED]
    assert (locked.severity, locked.count) == ("error", 0)
    assert "will not fit" in locked.why[-1]


def test_one_exchange_in_two_captures_is_found_once():
    client, asked, actual, _ = FOUR
    whole = story(client, asked, actual)
    once = codes(*whole)
    assert codes(capture(*whole), capture(*whole, source=1)) == once
    found = findings(capture(*whole[:2]), capture(*whole, source=1))
    # The second saw more requests, and so tells of them.
    assert [(seen.source, seen.packet) for seen in found[OTHER].evidence] == [(1, 1), (0, 2), (1, 3)]
    assert "(packet 3 of 1.pcap)" in found[OTHER].why[2]


def test_a_request_and_its_reply_may_be_in_different_captures():
    client, asked, actual, _ = FOUR
    request, *rest = story(client, asked, actual)[:3]
    [alone] = capture(request)
    others = capture(*rest, source=1)
    later = [replace(message, time_ns=message.time_ns + SECOND) for message in others]
    assert codes([alone], later) == [(OTHER, "error")]


def test_the_capture_that_saw_the_refusal_outweighs_a_longer_one_that_did_not():
    client, asked, actual, _ = FOUR
    longer = [sent(client, asked), *[sent(actual, client)] * 5]
    for captures in (
        (capture(*longer), capture(*story(client, asked, actual)[:3], source=1)),
        (capture(*story(client, asked, actual)[:3]), capture(*longer, source=1)),
    ):
        assert codes(*captures) == [(OTHER, "error")]
