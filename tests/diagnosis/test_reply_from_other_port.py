import pytest

from .build import at, codes, findings, refused, sent

CLIENT, ASKED, ACTUAL = "172.17.0.3:38908", "172.16.13.13:56789", "172.16.13.13:1024"
CODE = "reply-from-other-port"


def test_a_translated_reply_is_refused():
    [found] = findings(sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT)).values()
    assert (found.code, found.severity, found.count, found.process) == (CODE, "error", 1, None)
    assert (found.client, found.server, found.actual) == (at(CLIENT), at(ASKED), at(ACTUAL))
    assert [seen.packet for seen in found.evidence] == [1, 2, 3]
    assert "nf_nat_l4proto_unique_tuple()" in found.why[0]
    assert [step.split(" on the ")[0] for step in found.why[1:]] == [
        "__udp4_lib_lookup()",
        "icmp_send()",
        "udp_err()",
    ]


def test_a_client_that_asks_on_did_not_take_it_for_an_answer():
    [found] = findings(sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), sent(CLIENT, ASKED)).values()
    assert (found.code, found.severity) == (CODE, "warning")
    assert found.why[-1].startswith("__udp4_lib_lookup()")


def test_where_the_refusal_quotes_the_reply_as_it_was_before_translation_the_cause_alone_is_told():
    steps = [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), refused("172.17.0.1:56789", CLIENT)]
    assert codes(*steps) == [("nat-moved-port", "error")]


def test_in_ipv6_the_functions_have_their_own_names():
    client, asked, actual = "[fd01::3]:38908", "[fd00::13]:56789", "[fd00::13]:1024"
    [found] = findings(sent(client, asked), sent(actual, client), refused(actual, client)).values()
    assert [step.split(" on the ")[0] for step in found.why[1:]] == [
        "__udp6_lib_lookup()",
        "icmpv6_send()",
        "udpv6_err()",
    ]


SILENT = {
    "the client may still take it": [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT)],
    "the port asked answered as well": [
        sent(CLIENT, ASKED),
        sent(ACTUAL, CLIENT),
        refused(ACTUAL, CLIENT),
        sent(ASKED, CLIENT),
    ],
    "a new port by design, which the client goes on with": [
        sent(CLIENT, ASKED),
        sent(ACTUAL, CLIENT),
        sent(CLIENT, ACTUAL),
        sent(ACTUAL, CLIENT),
        sent(CLIENT, ASKED),
    ],
    "a TFTP client that had gone": [
        sent("10.0.0.9:2000", "10.0.0.1:69"),
        sent("10.0.0.1:3000", "10.0.0.9:2000"),
        refused("10.0.0.1:3000", "10.0.0.9:2000"),
    ],
    "a PROFINET client that goes on asking": [
        sent("10.0.0.9:49155", "10.0.0.1:34964"),
        sent("10.0.0.1:49161", "10.0.0.9:49155"),
        sent("10.0.0.9:49155", "10.0.0.1:34964"),
    ],
    "both sides use one port, and the peer asks from an ephemeral one (ntpdate)": [
        sent("10.0.0.9:123", "10.0.0.1:123"),
        sent("10.0.0.1:40000", "10.0.0.9:123"),
        sent("10.0.0.9:123", "10.0.0.1:123"),
    ],
    "a server that spoke first in the capture, and another query from behind the same NAT": [
        sent("10.0.0.1:53", "192.0.2.1:1001"),
        sent("192.0.2.1:1002", "10.0.0.1:53"),
        sent("10.0.0.1:53", "192.0.2.1:1001"),
    ],
}


@pytest.mark.parametrize("steps", SILENT.values(), ids=SILENT)
def test_silent_where(steps):
    assert codes(*steps) == []
