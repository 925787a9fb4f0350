import pytest

from .facts_build import CLIENT, CLIENT6, ROUTER, ROUTER6, SERVER, SERVER6, flow, found, icmp, talk

CODE = "datagram-too-big"


def too_big(client=CLIENT, server=SERVER, requests=None, replies=None, quoted=None, **rest):
    kind, by = ((3, 4), ROUTER) if "[" not in client else ((2, 0), ROUTER6)
    error = icmp(kind, quoted or (client, server), by=by, **{"mtu": 1400, **rest})
    return talk(client, server, requests or flow(1, largest=1472), replies, error)


def test_it_names_the_router_its_mtu_and_the_largest_packet():
    one = found(too_big())[CODE]
    assert one.severity == "warning"
    assert one.summary == (
        f"{CLIENT} sent {SERVER} packets of up to 1500 bytes, with DF set; 10.0.0.254 had to drop them, "
        "since the next link takes 1400 bytes."
    )
    assert [step.split(" on ")[0] for step in one.why] == [
        "ip_forward()",
        "ipv4_sk_update_pmtu()",
        "udp_err()",
    ]


def test_in_ipv6():
    one = found(too_big(CLIENT6, SERVER6, flow(1, largest=1452)))[CODE]
    assert "packets of up to 1500 bytes, which no router of IPv6 may fragment" in one.summary
    assert one.why[0].startswith("ip6_forward() on fd00::fe")


def test_a_program_that_goes_on_with_large_ones():
    assert found(too_big(count=3, last=5))[CODE].severity == "error"


def test_an_old_router_names_no_mtu():
    assert "names no MTU" in found(too_big(mtu=None))[CODE].summary


def test_a_reply_may_be_too_big():
    one = found(too_big(replies=flow(1, 0.5, largest=4000), quoted=(SERVER, CLIENT), first=1))[CODE]
    assert one.summary.startswith(f"{SERVER} sent {CLIENT} packets of up to 4028 bytes")
    assert one.why[2].startswith("udp_err() on 10.0.0.1")


SILENT = {
    "path MTU discovery, after which answers came": too_big(replies=flow(2, 1), first=0.5),
    "a client that asks again, and gets less": too_big(
        requests=flow(2, 0, 3), replies=flow(2, 0.5, 3.1), quoted=(SERVER, CLIENT), first=1
    ),
    "tracepath": too_big(server="10.0.0.1:44446"),
    "another error": talk(CLIENT, SERVER, flow(1), None, icmp((3, 1), (CLIENT, SERVER), by=ROUTER)),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(conversation)
