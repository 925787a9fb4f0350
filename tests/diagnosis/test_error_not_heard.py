import pytest

from udpkit.facts import Calls, TracedSocket

from .facts_build import CLIENT, ROUTER, SERVER, at, case, flow, found, icmp, moment, refused, talk

CODE = "error-not-heard"
GOES_ON = talk(CLIENT, SERVER, flow(9, 0, 8), None, refused(count=6, last=8))


def test_a_client_that_goes_on_after_refusals_hears_nothing_or_does_so_by_design():
    one = found(GOES_ON)[CODE]
    assert (one.severity, one.count) == ("note", 6)
    assert "sent 9 datagrams" in one.summary
    assert "either its socket is not connected and did not ask for errors, or" in one.summary
    assert one.why[0].startswith("udp_err() on 10.0.0.9")
    assert one.why[1].startswith("__ip4_datagram_connect() on 10.0.0.9")


def test_what_may_pass_is_told_to_nobody_who_did_not_ask():
    one = found(
        talk(CLIENT, SERVER, flow(9, 0, 8), None, icmp((3, 1), (CLIENT, SERVER), by=ROUTER, count=3, last=8))
    )
    assert "only if its socket asks for errors (IP_RECVERR)" in one[CODE].summary
    assert len(one[CODE].why) == 1


def test_a_protocol_without_answers_never_notices():
    statsd = "10.0.0.1:8125"
    one = found(talk(CLIENT, statsd, flow(9, 0, 8), None, refused(CLIENT, statsd, count=6, last=8)))[CODE]
    assert "nobody may ever notice" in one.why[-1]


def traced(errno):
    connect = Calls("connect", "connect", 1, moment(0), moment(0), at(SERVER))
    told = Calls("send", "send", 6, moment(1), moment(8), None, errno=errno)
    return TracedSocket("pid 7", 3, 4, moment(0), calls=[connect, told])


def test_a_trace_shows_whether_the_program_was_told():
    assert CODE not in found(case(GOES_ON, traces=[traced("ECONNREFUSED")]))
    assert CODE in found(case(GOES_ON, traces=[traced("EAGAIN")]))


SILENT = {
    "it stopped": talk(CLIENT, SERVER, flow(2, 0, 1), None, refused(count=2, last=1)),
    "it had no time to react": talk(CLIENT, SERVER, flow(9, 0, 0.5), None, refused(count=6, last=0.5)),
    "it was sent before": talk(CLIENT, SERVER, flow(9, 0, 3), None, refused(count=6, first=3.1, last=4)),
    "answers came": talk(CLIENT, SERVER, flow(9, 0, 8), flow(3, 1), refused(count=6, last=8)),
    "a broadcast": talk(
        CLIENT,
        "10.0.0.255:7000",
        flow(9, 0, 8),
        None,
        refused(CLIENT, "10.0.0.255:7000", by="10.0.0.3", count=6, last=8),
    ),
    "its datagrams are too big": talk(
        CLIENT, SERVER, flow(9, 0, 8), None, icmp((3, 4), (CLIENT, SERVER), by=ROUTER, count=6, last=8)
    ),
    "a server whose replies are refused": talk(
        "10.0.0.1:53", CLIENT, flow(9, 0, 8), None, refused("10.0.0.1:53", CLIENT, count=6, last=8)
    ),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(conversation)
