import pytest

from .facts_build import CLIENT, CLIENT6, ROUTER, at, case, codes, flow, found, refused, talk

CODE = "late-reply"
DNS = "10.0.0.1:53"


def test_a_refused_reply_says_that_the_client_had_gone():
    one = found(talk(CLIENT, DNS, flow(1), flow(1, 6.25), refused(DNS, CLIENT, first=6.3)))[CODE]
    assert (one.severity, one.client, one.server, one.count) == ("note", at(CLIENT), at(DNS), 1)
    gone = "had closed its socket and refused the reply"
    assert one.summary == f"{DNS} answered {CLIENT}, which {gone}: 6.25 s after the request."
    assert one.why[0].startswith("__udp4_lib_lookup() on 10.0.0.9")
    assert one.why[2].startswith("udp_err() on 10.0.0.1")
    assert [seen.packet for seen in one.evidence] == [1, 6301, 6251]


def test_in_ipv6():
    client, server = CLIENT6, "[fd00::1]:53"
    assert codes(talk(client, server, flow(1), flow(1, 6), refused(server, client, first=6))) == [
        (CODE, "note")
    ]


def test_one_of_several_questions_was_answered_too_late():
    one = found(talk(CLIENT, DNS, flow(2, 0, 3), flow(2, 2, 6), refused(DNS, CLIENT, first=6)))[CODE]
    assert "of 2 replies to 2 requests" in one.summary


def test_the_question_was_before_the_capture():
    one = found(talk(DNS, CLIENT, flow(1), None, refused(DNS, CLIENT)))[CODE]
    assert (one.client, one.server) == (at(CLIENT), at(DNS))
    assert "its question was not captured" in one.summary


SILENT = {
    "the client asks another from that port: its socket is connected there": case(
        talk("10.0.0.2:53", CLIENT, flow(1), None, refused("10.0.0.2:53", CLIENT)),
        talk(CLIENT, DNS, flow(2, 0, 1)),
    ),
    "the client waits for another's answer, which went around the NAT that it asked": case(
        talk(CLIENT, "192.0.2.1:5300", flow(1)),
        talk(CLIENT, DNS, flow(1, 0.1), flow(1, 0.2), refused(DNS, CLIENT, first=0.2)),
    ),
    "the client has its answer, and the server repeats it": talk(
        CLIENT, DNS, flow(1), flow(2, 0.1, 5), refused(DNS, CLIENT, first=5)
    ),
    "the question was repeated, and both copies answered": talk(
        CLIENT, DNS, flow(2, 0, 5), flow(2, 5.1, 5.2), refused(DNS, CLIENT, first=5.2)
    ),
    "a stream goes on for a moment after the client hung up": talk(
        CLIENT,
        "10.0.0.1:7000",
        flow(500, 0, 10),
        flow(500, 0, 10.1),
        refused("10.0.0.1:7000", CLIENT, first=10, count=4),
    ),
    "a router refuses": talk(CLIENT, DNS, flow(1), flow(1, 6), refused(DNS, CLIENT, by=ROUTER, first=6)),
    "the server refuses": talk(CLIENT, DNS, flow(1), None, refused(CLIENT, DNS)),
    "the reply came from another address": talk(
        CLIENT, DNS, flow(1), None, refused("10.1.0.1:53", CLIENT), strays={"10.1.0.1:53": flow(1)}
    ),
    "a TFTP client that had gone": talk(
        CLIENT,
        "10.0.0.1:69",
        flow(1),
        None,
        refused("10.0.0.1:3000", CLIENT),
        strays={"10.0.0.1:3000": flow(1)},
    ),
    "a search that was over": talk(
        CLIENT, "239.255.255.250:1900", flow(1), flow(1, 6), refused("239.255.255.250:1900", CLIENT)
    ),
    "an answer that was taken": talk(CLIENT, DNS, flow(1), flow(1, 0.1)),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(conversation)
