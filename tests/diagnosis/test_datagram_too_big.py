import pytest

from udpkit.fixes import advise

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


def offered(found):
    return {offer.id: offer.command for offer in advise(found).fixes}["smaller-datagrams"]


@pytest.mark.parametrize(
    ("mtu", "noted", "payload"),
    [
        (
            1400,
            "the MTU for that path, and",
            "1232 bytes of payload, as every link of IPv6 takes that (DNS: edns-buffer-size 1232)",
        ),
        (1000, "the MTU for that path, and", "972 bytes of payload, as the MTU of the path takes no more"),
        (296, "552 bytes for that path, its net.ipv4.route.min_pmtu", "268 bytes of payload, as"),
        (None, "552 bytes for that path", "1232 bytes of payload"),
        (20, "552 bytes for that path", "1232 bytes of payload"),  # no link takes so little
    ],
)
def test_what_passes_is_what_the_error_names(mtu, noted, payload):
    one = found(too_big(mtu=mtu))[CODE]
    assert one.why[1].startswith(f"ipv4_sk_update_pmtu() on 10.0.0.9: it notes {noted}")
    assert f"send at most {payload}" in offered(one)


def test_ipv6_knows_no_smaller_mtu_than_1280():
    one = found(too_big(CLIENT6, SERVER6, mtu=1200))[CODE]
    assert "notes 1280 bytes for that path" in one.why[1]
    assert "1232 bytes" in offered(one)


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
