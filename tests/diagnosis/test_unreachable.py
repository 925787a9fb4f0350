import pytest

from .facts_build import (
    CLIENT,
    CLIENT6,
    ROUTER,
    ROUTER6,
    SERVER,
    SERVER6,
    case,
    codes,
    flow,
    found,
    icmp,
    talk,
)

CODE = "unreachable"


def failing(kind, by=ROUTER, client=CLIENT, server=SERVER, replies=None, **rest):
    return talk(client, server, flow(2), replies, icmp(kind, (client, server), by=by, **rest))


WHO = {
    "a router with a route of the type unreachable": (
        (3, 1),
        ROUTER,
        "ip_error() on 10.0.0.254: a route of the type unreachable says so, or a rule with REJECT",
    ),
    "the client's own host at once": (
        (3, 1),
        "10.0.0.9",
        "nf_send_unreach() on 10.0.0.9: a rule with REJECT",
    ),
    "what Linux does not say": (
        (3, 12),
        ROUTER,
        "nf_send_unreach() on 10.0.0.254: a rule with REJECT met the datagram to 10.0.0.1, or a router of",
    ),
    "a router without a route": ((3, 0), ROUTER, "ip_error() on 10.0.0.254: it has no route to 10.0.0.1"),
    "the client's own firewall": (
        (3, 0),
        "10.0.0.9",
        "nf_send_unreach() on 10.0.0.9: a rule with REJECT in its own OUTPUT chain",
    ),
    "the host itself": ((3, 2), None, "nf_send_unreach() on 10.0.0.1: the host got the datagram"),
}


@pytest.mark.parametrize(("kind", "by", "step"), WHO.values(), ids=WHO)
def test_it_says_who_says_so_and_why(kind, by, step):
    one = found(failing(kind, by))[CODE]
    assert one.severity == "error"
    assert f"says {by}" in one.summary or f"({by})" in one.summary or by is None
    assert one.why[0].startswith(step)
    assert one.why[0].endswith("(packet 11).")


@pytest.mark.parametrize(("by", "link"), [(ROUTER, "the last link"), ("10.0.0.9", "its own link")])
def test_it_takes_seconds_to_find_no_neighbour(by, link):
    silent = f"arp_error_report() on {by}: 10.0.0.1 did not answer on {link}"
    assert found(failing((3, 1), by, first=3.1))[CODE].why[0].startswith(f"{silent} for 3.1 seconds")
    for asked in (flow(2, 0, 3), flow(1, 0, 0)):
        one = talk(CLIENT, SERVER, asked, None, icmp((3, 1), (CLIENT, SERVER), by=by, first=3.1))
        unknown = " for " not in found(one)[CODE].why[0].split(",")[0]
        assert unknown == (asked.count == 2)  # nobody knows which of them it is about


@pytest.mark.parametrize(
    ("code", "first", "step"),
    [
        (0, 0.1, "ip6_pkt_discard() on fd00::fe: it has no route to fd00::1, or one of the type unreachable"),
        (3, 3, "ndisc_error_report() on fd00::fe: fd00::1 did not answer on the last link for 3.0 seconds"),
        (3, 0.1, "nf_send_unreach6() on fd00::fe: a rule with REJECT says so; it came at once"),
    ],
)
def test_in_ipv6(code, first, step):
    one = found(failing((1, code), ROUTER6, CLIENT6, SERVER6, first=first))[CODE]
    assert one.why[0].startswith(step)


def test_who_answers_can_be_reached():
    assert "but 10.0.0.1 itself answered host unreachable." in found(failing((3, 1), None))[CODE].summary


def test_who_is_not_told_is_said():
    assert "IP_RECVERR" in found(failing((3, 1)))[CODE].why[1]
    assert "ENOPROTOOPT" in found(failing((3, 2)))[CODE].why[1]


def test_an_answer_may_not_get_back():
    about = icmp((3, 1), (SERVER, CLIENT), by=ROUTER, first=2, count=2)
    one = found(talk(CLIENT, SERVER, flow(2), flow(2, 1), about))[CODE]
    assert (one.severity, one.count) == ("error", 2)
    assert "answered 10.0.0.9:40000, but 10.0.0.9 cannot be reached" in one.summary


@pytest.mark.parametrize(
    ("replies", "severity"), [(flow(1), "warning"), (flow(1, 3), "note"), (None, "error")]
)
def test_answers_make_it_less_bad(replies, severity):
    assert found(failing((3, 1), replies=replies, first=2))[CODE].severity == severity


def test_one_router_where_the_ttl_runs_out_again_and_again():
    loop = icmp((11, 0), (CLIENT, SERVER), by=ROUTER, count=9, last=9)
    one = found(talk(CLIENT, SERVER, flow(9, 0, 9), None, loop))[CODE]
    assert one.severity == "warning"
    assert one.why[0].startswith("ip_forward() on 10.0.0.254")


SILENT = {
    "mtr to one port: each error comes from another router": talk(
        CLIENT,
        SERVER,
        flow(9, 0, 9),
        None,
        *(icmp((11, 0), (CLIENT, SERVER), by=f"10.0.{n}.254", count=3, last=9) for n in range(3)),
    ),
    "a single TTL that ran out": failing((11, 0)),
    "reassembly": failing((11, 1), None),
    "port unreachable": failing((3, 3), None),
    "a prohibition": failing((3, 13)),
    "what becomes of a reply from the wrong address": talk(
        CLIENT,
        SERVER,
        flow(1),
        None,
        icmp((3, 1), ("10.1.0.1:7000", CLIENT)),
        strays={"10.1.0.1:7000": flow(1, 1)},
    ),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(conversation)


def test_traceroute_to_a_host_that_is_down():
    ports = [f"10.0.0.1:{port}" for port in range(33434, 33440)]
    hops = [talk(CLIENT, one, flow(1), None, icmp((11, 0), (CLIENT, one), by=ROUTER)) for one in ports[:3]]
    ends = [talk(CLIENT, one, flow(1), None, icmp((3, 1), (CLIENT, one), by=ROUTER)) for one in ports[3:]]
    assert codes(case(*hops, *ends)) == []
