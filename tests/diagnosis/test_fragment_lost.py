import pytest

from .facts_build import CLIENT, CLIENT6, SERVER, SERVER6, case, codes, flow, found, icmp, talk

CODE = "fragment-lost"


@pytest.mark.parametrize(
    ("client", "server", "kind", "function"),
    [(CLIENT, SERVER, (11, 1), "ip_expire()"), (CLIENT6, SERVER6, (3, 1), "ip6_frag_expire()")],
)
def test_the_host_says_that_it_gave_up(client, server, kind, function):
    one = found(talk(client, server, flow(1, largest=4000), None, icmp(kind, (client, server), first=30)))[
        CODE
    ]
    assert one.severity == "error"
    assert f"{client} sent {server} a datagram in fragments, and not all of them arrived" in one.summary
    assert one.why[0].startswith(f"{function} on ")
    assert one.why[1].split()[0] == ("icmp_unreach()" if kind == (11, 1) else "udpv6_err()")


def test_others_got_through():
    partly = talk(CLIENT, SERVER, flow(9), flow(8), icmp((11, 1), (CLIENT, SERVER), first=30))
    assert codes(partly) == [(CODE, "warning")]


def test_a_reply_in_fragments():
    one = found(talk(CLIENT, SERVER, flow(1), flow(1), icmp((11, 1), (SERVER, CLIENT), first=30)))[CODE]
    assert one.severity == "error"
    assert one.why[1].startswith("icmp_unreach() on 10.0.0.1: no socket is told")


def test_what_only_the_capture_misses_may_be_its_filter():
    one = found(talk(CLIENT, SERVER, flow(3, lost=3)))[CODE]
    assert (one.severity, one.count) == ("note", 3)
    assert "or the capture's filter left them out" in one.summary


SILENT = {
    "they were answered": talk(CLIENT, SERVER, flow(3, lost=3), flow(3)),
    "an error says what became of them": talk(
        CLIENT, SERVER, flow(3, lost=3), None, icmp((3, 3), (CLIENT, SERVER))
    ),
    "the file is damaged": case(talk(CLIENT, SERVER, flow(3, lost=3)), damage=["cut"]),
    "a broadcast": talk(CLIENT, "10.0.0.255:7000", flow(3, lost=3)),
    "whole datagrams": talk(CLIENT, SERVER, flow(3)),
}


@pytest.mark.parametrize("given", SILENT.values(), ids=SILENT)
def test_silent_where(given):
    assert CODE not in found(given)
