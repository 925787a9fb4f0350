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
    host,
    icmp,
    refused,
    socket,
    table,
    talk,
)

CODE = "prohibited"


@pytest.mark.parametrize("code", [9, 10, 13])
@pytest.mark.parametrize(
    ("by", "who"),
    [
        (ROUTER, "10.0.0.254, which is on the way"),
        (None, "10.0.0.1 itself"),
        ("10.0.0.9", "the client's own host (10.0.0.9)"),
    ],
)
def test_it_names_who_forbids(code, by, who):
    one = found(talk(CLIENT, SERVER, flow(1), None, icmp((3, code), (CLIENT, SERVER), by=by)))[CODE]
    assert one.severity == "error"
    assert f"prohibited by {who}: " in one.summary
    assert one.why[0].startswith("nf_send_unreach() on ")


@pytest.mark.parametrize("code", [1, 5, 6])
def test_in_ipv6(code):
    one = found(talk(CLIENT6, SERVER6, flow(1), None, icmp((1, code), (CLIENT6, SERVER6), by=ROUTER6)))[CODE]
    assert one.why[0].startswith("nf_send_unreach6() on fd00::fe")
    assert ("ip6_pkt_prohibit()" in one.why[0]) == (code == 1)


ROUTES = {
    "a router's route": ((3, 13), ROUTER, True),
    "a kind that only a rule names": ((3, 10), ROUTER, False),
    "another router's precedence": ((3, 15), ROUTER, False),
    "a rule that says port unreachable": ((3, 3), ROUTER, False),
    "the host itself, which has the address": ((3, 13), None, False),
    "the client's own host, where the send would fail": ((3, 13), "10.0.0.9", False),
}


@pytest.mark.parametrize(("kind", "by", "expected"), ROUTES.values(), ids=ROUTES)
def test_what_a_route_of_the_type_prohibit_may_have_said(kind, by, expected):
    step = found(talk(CLIENT, SERVER, flow(1), None, icmp(kind, (CLIENT, SERVER), by=by)))[CODE].why[0]
    assert ("a route of the type prohibit says the same, from ip_error()" in step) == expected
    assert ("or a router that goes by precedence" in step) == (kind == (3, 15))


def test_port_unreachable_from_another_address_is_a_reject_rule():
    one = found(talk(CLIENT, SERVER, flow(1), None, refused(by=ROUTER)))[CODE]
    assert one.severity == "error"
    assert one.why[1].startswith("icmp_send() on 10.0.0.1 would have answered from that address")


def test_unless_it_is_the_hosts_own():
    asked = talk(CLIENT, SERVER, flow(1), None, refused(by=ROUTER))
    assert codes(case(asked, hosts=[host("", "10.0.0.1", ROUTER)])) == []
    assert codes(case(asked, tables=[table(socket("10.0.0.1:53"), socket(f"{ROUTER}:53"))])) == []


def test_a_socket_that_was_there_before_and_after_shows_the_hosts_own_rule():
    dns = socket("10.0.0.1:53", inode=9)
    there = [table(socket("0.0.0.0:7000", line=line), dns, when=when) for line, when in ((2, 0), (3, 9))]
    one = found(case(talk(CLIENT, SERVER, flow(1, 1), None, refused(first=1.1)), tables=there))
    assert list(one) == [CODE]
    assert [seen.line for seen in one[CODE].evidence[-2:]] == [2, 3]
    again = [there[0], table(socket("0.0.0.0:7000", inode=8), dns, when=9)]
    assert codes(case(talk(CLIENT, SERVER, flow(1, 1), None, refused(first=1.1)), tables=again)) == [
        ("nobody-listens", "warning")
    ]


def test_an_answer_may_be_prohibited_too():
    about = icmp((3, 13), (SERVER, CLIENT), by=ROUTER, first=2)
    one = found(talk(CLIENT, SERVER, flow(1), flow(1, 1), about))[CODE]
    assert one.severity == "error"
    assert one.summary.startswith(f"{SERVER} answered {CLIENT}, and that was prohibited by")


ADMIN = {"kind": (3, 13), "quoted": (CLIENT, SERVER), "by": ROUTER}
SEVERITIES = {
    "answers came before": (talk(CLIENT, SERVER, flow(4), flow(2, 1), icmp(**ADMIN, first=2)), "warning"),
    "answers came afterwards": (talk(CLIENT, SERVER, flow(4), flow(2, 1, 3), icmp(**ADMIN, first=2)), "note"),
    "asked on the off chance": (
        talk(CLIENT, "10.0.0.1:5351", flow(4), None, icmp((3, 13), (CLIENT, "10.0.0.1:5351"))),
        "note",
    ),
}


@pytest.mark.parametrize(("conversation", "severity"), SEVERITIES.values(), ids=SEVERITIES)
def test_how_bad_it_is(conversation, severity):
    assert found(conversation)[CODE].severity == severity


SILENT = {
    "a client's firewall refuses what came from the wrong address": talk(
        CLIENT,
        SERVER,
        flow(1),
        None,
        icmp((3, 10), ("10.1.0.1:7000", CLIENT)),
        strays={"10.1.0.1:7000": flow(1, 1)},
    ),
    "traceroute": talk(
        CLIENT, "10.0.0.1:33434", flow(1), None, icmp((3, 13), (CLIENT, "10.0.0.1:33434"), by=ROUTER)
    ),
    "a broadcast that somebody refuses": talk(
        CLIENT, "10.0.0.255:7000", flow(1), None, refused(CLIENT, "10.0.0.255:7000", by="10.0.0.3")
    ),
    "the host itself refuses": talk(CLIENT, SERVER, flow(1), None, refused()),
    "another error": talk(CLIENT, SERVER, flow(1), None, icmp((3, 1), (CLIENT, SERVER), by=ROUTER)),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(conversation)


def test_a_scan_that_a_firewall_refuses():
    ports = [f"10.0.0.1:{port}" for port in range(7000, 7005)]
    assert (
        codes(case(*(talk(CLIENT, one, flow(1), None, refused(CLIENT, one, by=ROUTER)) for one in ports)))
        == []
    )
