"""Twins of the story that are healthy, or that nobody can be sure about."""

import pytest

from udpkit.diagnosis import diagnose

from . import facts_build as facts
from .build import at, case, codes, findings, refused, sent, socket, tables

CLIENT, ASKED, ACTUAL = "172.17.0.3:38908", "172.16.13.13:56789", "172.17.0.1:56789"
CODE = "reply-from-other-address"
SEARCHER, GROUP, MEMBER = "10.0.0.9:40000", "10.0.0.255:27015", "10.0.0.1:27015"

SILENT = {
    "the address asked answered": [sent(CLIENT, ASKED), sent(ASKED, CLIENT)],
    "the address asked answered as well": [
        sent(CLIENT, ASKED),
        sent(ACTUAL, CLIENT),
        refused(ACTUAL, CLIENT),
        sent(ASKED, CLIENT),
    ],
    "the client went on with the other address": [
        sent(CLIENT, ASKED),
        sent(ACTUAL, CLIENT),
        sent(CLIENT, ACTUAL),
        sent(ACTUAL, CLIENT),
    ],
    "the client had asked both": [sent(CLIENT, ASKED), sent(CLIENT, ACTUAL), sent(ACTUAL, CLIENT)],
    "both sides use one port, as with NTP": [
        sent("10.0.0.9:123", "10.0.0.1:123"),
        sent("10.0.0.2:123", "10.0.0.9:123"),
        refused("10.0.0.2:123", "10.0.0.9:123"),
        sent("10.0.0.9:123", "10.0.0.1:123"),
        refused("10.0.0.9:123", "10.0.0.1:123"),
    ],
    "MPLS ping asks an address of 127.0.0.0/8 (RFC 8029)": [
        sent("10.0.0.9:40000", "127.0.0.1:3503"),
        sent("10.0.0.1:3503", "10.0.0.9:40000"),
    ],
    "the capture began after the request": [
        sent(ACTUAL, CLIENT),
        refused(ACTUAL, CLIENT),
        sent(CLIENT, ASKED),
    ],
    "of the reply only its refusal was captured": [sent(CLIENT, ASKED), refused(ACTUAL, CLIENT)],
    "another address and another port is a stranger": [sent(CLIENT, ASKED), sent("172.17.0.1:9", CLIENT)],
    "somebody else's datagram": [sent(CLIENT, ASKED), sent(ACTUAL, "172.17.0.3:38909")],
    "a multicast request is answered by whoever is there (SSDP)": [
        sent("10.0.0.9:40000", "239.255.255.250:1900"),
        sent("10.0.0.1:1900", "10.0.0.9:40000"),
        sent("10.0.0.2:1900", "10.0.0.9:40000"),
        refused("10.0.0.2:1900", "10.0.0.9:40000"),  # the search was over
    ],
    "and so is one in IPv6 (mDNS)": [
        sent("[fe80::9]:40000", "[ff02::fb]:5353"),
        sent("[fe80::1]:5353", "[fe80::9]:40000"),
    ],
    "and a broadcast": [
        sent("10.0.0.9:40000", "255.255.255.255:27015"),
        sent("10.0.0.1:27015", "10.0.0.9:40000"),
    ],
    "and one to a subnet": [
        sent("10.0.0.9:40000", "10.0.0.255:27015"),
        sent("10.0.0.1:27015", "10.0.0.9:40000"),
    ],
    "a DHCP client that never wrote to the server, and one that releases its address": [
        sent("0.0.0.0:68", "255.255.255.255:67"),
        sent("10.0.0.1:67", "10.0.0.8:68"),
        sent("10.0.0.9:68", "10.0.0.1:67"),
    ],
    "a peer-to-peer node that asked several peers of the usual port, and hears from one more": [
        sent("10.0.0.9:51413", "192.0.2.1:6881"),
        sent("10.0.0.9:51413", "192.0.2.2:6881"),
        sent("192.0.2.3:6881", "10.0.0.9:51413"),
    ],
    "a broadcast whose answer comes when the client has long gone": [
        sent(SEARCHER, GROUP),
        sent("10.0.0.7:9", "10.0.0.8:9"),
        sent(MEMBER, SEARCHER),
        refused(MEMBER, SEARCHER),
    ],
    "a broadcast, of which one client took the first answer, refused the next and asked again": [
        sent(SEARCHER, GROUP),
        sent(MEMBER, SEARCHER),
        sent("10.0.0.2:27015", SEARCHER),
        refused("10.0.0.2:27015", SEARCHER),
        sent(SEARCHER, GROUP),
    ],
    "an answer to a group, refused by a router": [
        sent(SEARCHER, GROUP),
        sent(MEMBER, SEARCHER),
        refused(MEMBER, SEARCHER, by="10.0.0.254"),
        sent(SEARCHER, GROUP),
    ],
}


@pytest.mark.parametrize("steps", SILENT.values(), ids=SILENT)
def test_silent_where(steps):
    assert codes(*steps) == []


@pytest.mark.parametrize("by", ["10.9.9.9", "172.16.13.13"])
def test_an_error_of_a_router_is_not_the_clients_refusal(by):
    steps = [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT, by=by)]
    assert codes(*steps) == [(CODE, "warning")]


@pytest.mark.parametrize("code", [0, 1, 2, 9, 10, 13])
def test_another_icmp_error_is_no_refusal(code):
    steps = [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT, code=code)]
    assert codes(*steps) == [(CODE, "warning")]


def test_a_reply_that_nobody_refused_may_have_met_a_firewall():
    """One that lets in answers only drops it without a word."""
    found = findings(sent(CLIENT, ASKED), sent(ACTUAL, CLIENT))[CODE]
    assert "takes the datagram, if no firewall of that host drops it before" in found.why[-1]


def test_an_unconnected_server_may_have_asked_to_be_told_of_the_refusal():
    found = findings(sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT))[CODE]
    assert found.why[-1].endswith("hears of it only if it asked for errors (IP_RECVERR).")


def test_every_reply_and_every_refusal_is_evidence():
    exchange = [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT)]
    found = findings(*exchange, *exchange)[CODE]
    assert (found.count, found.severity) == (2, "error")
    assert [seen.packet for seen in found.evidence] == [1, 2, 5, 3, 6]
    assert "packet 3" in found.why[2]


def test_each_other_address_is_its_own_finding():
    third = "192.168.7.1:56789"
    steps = [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), sent(third, CLIENT)]
    refusals = [refused(ACTUAL, CLIENT), refused(third, CLIENT)]
    assert codes(*steps, *refusals) == [(CODE, "error")] * 2


def test_a_client_to_which_several_strangers_write_serves_as_well():
    steps = [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), sent("192.168.7.1:56789", CLIENT)]
    assert codes(*steps) == []


@pytest.mark.parametrize("other_first", [True, False])
def test_another_server_that_answers_does_not_hide_it(other_first):
    """musl's resolver asks all name servers from one unconnected socket."""
    client, good, asked, actual = "10.0.0.9:40000", "10.0.0.2:53", "10.0.0.1:53", "10.1.0.1:53"
    asks = [sent(client, good), sent(client, asked)]
    steps = asks if other_first else asks[::-1]
    for answers in ([sent(good, client), sent(actual, client)], [sent(actual, client), sent(good, client)]):
        [found] = findings(*steps, *answers).values()
        assert (found.code, str(found.server), str(found.actual)) == (CODE, asked, actual)


def test_a_client_on_a_reserved_port_is_a_client():
    """An RPC client takes its port with bindresvport(3)."""
    client, asked, actual = "10.0.0.9:700", "10.0.0.1:2049", "10.1.0.1:2049"
    assert codes(sent(client, asked), sent(actual, client), refused(actual, client)) == [(CODE, "error")]


@pytest.mark.parametrize(("bad_requests", "bad_strays"), [(1, 0), (0, 1)])
def test_an_address_that_does_not_fit_its_checksum_is_none(bad_requests, bad_strays):
    strays = {ACTUAL: facts.flow(1, 1, bad=bad_strays)}
    requests = facts.flow(1, bad=bad_requests)
    refusal = facts.refused(ACTUAL, CLIENT)
    for errors, expected in ([], []), ([refusal], [CODE]):
        one = facts.talk(CLIENT, ASKED, requests, None, *errors, strays=strays)
        assert [found.code for found in diagnose(facts.case(one))] == expected


@pytest.mark.parametrize("local", ["0.0.0.0:56789", "[::]:56789", None])
def test_where_the_server_waits_is_known_from_its_table(local):
    one = facts.talk(CLIENT, ASKED, facts.flow(1), None, strays={ACTUAL: facts.flow(2)})
    tables = [facts.table(facts.socket(local))] if local else []
    [found] = diagnose(facts.case(one, tables=tables))
    assert (found.code, found.listener) == (CODE, facts.at(local) if local else None)


GROUPS = {
    "broadcast": (SEARCHER, GROUP, MEMBER),
    "multicast": (SEARCHER, "239.1.2.3:7000", "10.0.0.1:7000"),
    "IPv6": ("[fe80::9]:40000", "[ff12::1]:7000", "[fe80::1]:7000"),
}


@pytest.mark.parametrize(("client", "group", "member"), GROUPS.values(), ids=GROUPS)
def test_a_client_that_refuses_who_answers_for_a_group(client, group, member):
    steps = [sent(client, group), sent(member, client), refused(member, client)]
    [one] = findings(*steps).values()
    assert (one.code, one.severity, one.count) == (CODE, "warning", 1)
    assert (one.client, one.server, one.actual) == (at(client), at(group), at(member))
    assert "or had closed its socket" in one.summary
    assert "nobody can answer from a" in one.why[0]
    assert "_lib_lookup() on the client" in one.why[2]
    assert [seen.packet for seen in one.evidence] == [1, 2, 3]
    [asked_on] = findings(*steps, sent(client, group)).values()
    assert (asked_on.severity, "closed" in asked_on.summary) == ("error", False)


def test_a_table_that_shows_the_client_connected_to_the_group_is_certain():
    steps = [sent(SEARCHER, GROUP), sent("10.0.0.7:9", "10.0.0.8:9"), sent(MEMBER, SEARCHER)]
    connected = tables((1.5, [socket(SEARCHER, GROUP)]))
    one = findings(*steps, refused(MEMBER, SEARCHER), tables=connected)[CODE]
    assert (one.severity, one.process) == ("error", "nc")
    assert one.evidence[-1].line
    assert codes(*steps, tables=connected) == []


def test_each_member_that_is_refused_is_its_own_finding():
    members = [MEMBER, "10.0.0.2:27015"]
    answers = [step for member in members for step in (sent(member, SEARCHER), refused(member, SEARCHER))]
    found = diagnose(case(sent(SEARCHER, GROUP), *answers))
    assert [(one.code, str(one.actual)) for one in found] == [(CODE, member) for member in members]


NAT, BEHIND = "192.0.2.1:5300", "172.17.0.2:53"


def around_nat(nat=NAT, *, source=1, apart=0.001, replies=1, refusals=1):
    """What captures of both sides show of a request that NAT turns back onto the client's link."""
    return [
        facts.talk(CLIENT, nat, facts.flow(1)),
        facts.talk(
            CLIENT,
            BEHIND,
            facts.flow(1, apart, source=source),
            facts.flow(replies, 0.5),
            facts.refused(BEHIND, CLIENT, first=0.51, count=refusals),
        ),
    ]


@pytest.mark.parametrize("nat", [NAT, "192.0.2.1:53"])
def test_an_answer_that_goes_around_the_nat_that_was_asked(nat):
    [one] = diagnose(facts.case(*around_nat(nat)))
    assert (one.code, one.severity, one.translated) == (CODE, "error", True)
    assert (one.client, one.server, one.actual) == (at(CLIENT), at(nat), at(BEHIND))
    assert one.why[0].startswith("nf_nat_inet_fn() on 192.0.2.1")
    assert "of its own to 172.17.0.3" in one.why[1]
    assert "connected to " + nat in one.why[2]
    assert not any("no source address of its own" in step for step in one.why)
    assert [seen.source for seen in one.evidence][:2] == [0, 1]


NOT_AROUND = {
    "one capture saw both: the client may have asked both": around_nat(source=0),
    "the requests are not of one time": around_nat(apart=0.4),
    "the client took one of the answers": around_nat(replies=2),
    "nothing was refused": [
        *around_nat()[:1],
        facts.talk(CLIENT, BEHIND, facts.flow(1, source=1), facts.flow(1, 1)),
    ],
    "two that were asked may be the one": [*around_nat(), facts.talk(CLIENT, "192.0.2.7:53", facts.flow(1))],
}


@pytest.mark.parametrize("conversations", NOT_AROUND.values(), ids=NOT_AROUND)
def test_not_around_a_nat(conversations):
    assert not any(one.code == CODE for one in diagnose(facts.case(*conversations)))


def test_the_clients_capture_alone_does_not_tell_a_nat_from_a_host_with_two_addresses():
    asked = "172.16.13.13:53"
    [one] = findings(sent(CLIENT, asked), sent(BEHIND, CLIENT), refused(BEHIND, CLIENT)).values()
    assert "Or, if that is another host than 172.16.13.13: NAT sent the request on" in one.why[0]
