from dataclasses import replace
from ipaddress import ip_address

import pytest

from udpkit.diagnosis import diagnose
from udpkit.facts import Case, Endpoint, NamedIPv4
from udpkit.fixes import advise

from .facts_build import (
    CLIENT,
    CLIENT6,
    ROUTER,
    SERVER,
    SERVER6,
    at,
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

CODE = "nobody-listens"


def test_a_refused_request_names_the_port_that_nobody_has():
    one = found(talk(CLIENT, SERVER, flow(1), None, refused()))[CODE]
    assert (one.severity, one.client, one.server, one.count) == ("error", at(CLIENT), at(SERVER), 1)
    assert one.summary == f"{CLIENT} asked {SERVER}, and 10.0.0.1 refused it: nobody listens on that port."
    assert [step.split(": ")[0] for step in one.why] == [
        "__udp4_lib_lookup() on 10.0.0.1",
        "icmp_send() on 10.0.0.1",
        "udp_err() on 10.0.0.9",
    ]
    assert "an unconnected one hears of it only if it asked for errors (IP_RECVERR)" in one.why[2]
    assert [seen.packet for seen in one.evidence] == [1, 11]


def test_in_ipv6_too():
    one = found(talk(CLIENT6, SERVER6, flow(1), None, refused(CLIENT6, SERVER6)))[CODE]
    assert (one.severity, one.why[0].split()[0]) == ("error", "__udp6_lib_lookup()")
    assert SERVER6 in one.summary


def test_errors_alone_are_enough_and_a_hidden_port_is_not_shown():
    """`tcpdump icmp` shows no datagrams, and of the quoted one only where it went."""
    client, server = "172.16.0.62:0", "172.16.0.46:8888"
    one = found(talk(client, server, None, None, refused(client, server, count=4, last=4)))[CODE]
    assert (one.severity, one.count) == ("error", 4)
    assert one.summary.startswith("172.16.0.62 asked 172.16.0.46:8888,")


AFTER = flow(3, 0.5, 1)
SEVERITIES = {
    "a service that had answered": (
        talk(CLIENT, "10.0.0.1:53", flow(5), AFTER, refused(CLIENT, "10.0.0.1:53", first=2)),
        "error",
    ),
    "a program that had answered, and stays away": (
        talk(CLIENT, SERVER, flow(9), AFTER, refused(first=2, last=9, count=7)),
        "error",
    ),
    "a socket that closed after its last reply": (
        talk(CLIENT, SERVER, flow(4), AFTER, refused(first=1.1)),
        "note",
    ),
    "a program that started later": (talk(CLIENT, SERVER, flow(4), AFTER, refused(first=0.1)), "note"),
    "a program that restarted": (talk(CLIENT, SERVER, flow(4), AFTER, refused(first=0.7)), "note"),
    "several servers behind one address": (
        talk(CLIENT, SERVER, flow(9), AFTER, refused(first=0.7, last=3, count=3)),
        "note",
    ),
    "NetBIOS to a host that does not speak it": (
        talk(
            "10.0.0.9:137",
            "10.0.0.1:137",
            flow(3, 0, 3),
            None,
            refused("10.0.0.9:137", "10.0.0.1:137", count=3),
        ),
        "note",
    ),
    "an NTP peer that is asked again and again": (
        talk("10.0.0.9:123", "10.0.0.1:123", flow(3), None, refused("10.0.0.9:123", "10.0.0.1:123", count=3)),
        "error",
    ),
    "an error alone, about a port that a client may have": (
        talk(CLIENT, "10.0.0.1:40001", None, None, refused(CLIENT, "10.0.0.1:40001")),
        "note",
    ),
    "a datagram of which nobody knows whether it was the question": (
        talk("10.0.0.9:5000", "10.0.0.1:40001", flow(1), None, refused("10.0.0.9:5000", "10.0.0.1:40001")),
        "note",
    ),
}


def test_what_was_answered_only_later_may_have_been_there_before():
    one = found(SEVERITIES["a program that started later"][0])[CODE]
    assert "answered only later, so its program (re)started, or NAT on the way changed" in one.summary


@pytest.mark.parametrize(("conversation", "severity"), SEVERITIES.values(), ids=SEVERITIES)
def test_how_bad_it_is(conversation, severity):
    assert found(conversation)[CODE].severity == severity


@pytest.mark.parametrize(
    ("count", "times"), [(1, "it had answered once, so"), (2, "it had answered 2 times, so")]
)
def test_how_often_it_had_answered(count, times):
    one = found(talk(CLIENT, SERVER, flow(3), flow(count, 0.1), refused(first=3, last=6, count=2)))[CODE]
    assert times in one.summary


def test_peers_come_and_go():
    peers = [f"192.0.2.{n}:6881" for n in range(1, 6)]
    conversations = [talk(CLIENT, peer, flow(1), None, refused(CLIENT, peer)) for peer in peers]
    one = case(*conversations)
    from udpkit.diagnosis.rules import nobody_listens

    assert {each.severity for each in nobody_listens.find(one)} == {"note"}


def test_the_hosts_socket_table_says_that_there_is_none():
    others = table(socket("10.0.0.1:53"))
    one = found(case(talk(CLIENT, SERVER, flow(1), None, refused()), tables=[others]))[CODE]
    assert "socket table has none either" in one.why[0]


def test_a_table_with_a_socket_on_the_port_makes_it_less_certain():
    waiting = table(socket("0.0.0.0:7000", process="game"), socket("10.0.0.1:53"))
    one = found(case(talk(CLIENT, SERVER, flow(1), None, refused()), tables=[waiting]))[CODE]
    assert one.severity == "warning"
    assert "yet the socket table shows game" in one.summary


def test_wildcards_prove_nothing_about_another_host():
    waiting = table(socket("0.0.0.0:7000", process="game"))
    asked = talk(CLIENT, SERVER, flow(1), None, refused())
    one = found(case(asked, tables=[waiting]))[CODE]
    assert one.severity == "error"
    assert "if the socket table with game on 0.0.0.0:7000 is of that host" in one.summary
    on_loopback = talk(
        "127.0.0.1:40000", "127.0.0.1:7000", flow(1), None, refused("127.0.0.1:40000", "127.0.0.1:7000")
    )
    assert found(case(on_loopback, tables=[waiting]))[CODE].severity == "error"
    assert (
        found(case(on_loopback, tables=[waiting], hosts=[host("", "10.0.0.1")]))[CODE].severity == "warning"
    )
    other = talk(CLIENT, "10.7.0.1:53", flow(1), None, refused(CLIENT, "10.7.0.1:53"))
    alike = [each for each in diagnose(case(asked, other, tables=[waiting])) if each.code == CODE]
    assert not any("socket table" in each.summary for each in alike)


SILENT = {
    "an NTP peer, or its late answer": talk(
        "10.0.0.9:123", "10.0.0.1:123", flow(1), None, refused("10.0.0.9:123", "10.0.0.1:123")
    ),
    "a refused reply": talk(CLIENT, "10.0.0.1:53", flow(2), flow(2, 0.1, 5), refused("10.0.0.1:53", CLIENT)),
    "a reply from another address, after which the listener was gone": talk(
        CLIENT,
        SERVER,
        flow(2, 0, 4),
        None,
        refused("10.1.0.1:7000", CLIENT, first=2),
        refused(first=4),
        strays={"10.1.0.1:7000": flow(1, 2)},
    ),
    "answers": talk(CLIENT, SERVER, flow(2), flow(2)),
    "a broadcast": talk(CLIENT, "10.0.0.255:7000", flow(2), None, refused(CLIENT, "10.0.0.255:7000")),
    "an end of traceroute": talk(CLIENT, "10.0.0.1:33440", flow(1), None, refused(CLIENT, "10.0.0.1:33440")),
    "both ends have hung up": talk(
        CLIENT,
        SERVER,
        flow(500, 0, 10),
        flow(500, 0, 10),
        refused(first=10),
        refused(SERVER, CLIENT, first=10),
    ),
}


@pytest.mark.parametrize("conversation", SILENT.values(), ids=SILENT)
def test_silent_where(conversation):
    assert CODE not in found(conversation)


def test_another_address_that_says_port_unreachable_is_not_the_host():
    assert codes(talk(CLIENT, SERVER, flow(1), None, refused(by=ROUTER))) == [("prohibited", "error")]


def test_the_answer_of_which_the_question_was_not_captured_is_no_question():
    late = talk("10.0.0.1:53", CLIENT, flow(1), None, refused("10.0.0.1:53", CLIENT))
    assert codes(late) == [("late-reply", "note")]


def test_a_port_scan_ends_in_refusals():
    ports = [f"10.0.0.1:{port}" for port in range(7000, 7005)]
    assert codes(case(*(talk(CLIENT, one, flow(1), None, refused(CLIENT, one)) for one in ports))) == []
    assert codes(case(*(talk(CLIENT, one, flow(4), None, refused(CLIENT, one)) for one in ports[:1]))) == [
        (CODE, "error")
    ]


def test_the_loopbacks_of_several_captures_are_no_port_scan():
    def captures(*numbers: int) -> Case:
        ends = [("127.0.0.1:40000", f"127.0.0.1:{port}", n) for port, n in enumerate(numbers, 7000)]
        talks = (
            talk(client, server, flow(1, source=n), None, refused(client, server))
            for client, server, n in ends
        )
        return case(*talks)

    assert {one.code for one in diagnose(captures(0, 1, 2, 3, 4))} == {CODE}
    assert diagnose(captures(0, 0, 0, 0, 0)) == []


def test_a_name_is_no_broadcast_address_by_what_stands_for_it():
    named = Endpoint(NamedIPv4(int(ip_address("240.1.2.255")), "server.example"), 7000)
    asked = replace(talk(CLIENT, SERVER, flow(1), None, refused()), server=named)
    error = replace(asked.errors[0].error, sender=named.address, quoted_destination=named)
    assert found(replace(asked, errors=[replace(asked.errors[0], error=error)]))[CODE].severity == "error"


def test_traceroute_to_any_port_is_known_by_what_the_routers_say():
    ports = ["10.7.0.1:53", "10.7.0.1:54"]
    hop = talk(CLIENT, ports[0], flow(1), None, icmp((11, 0), (CLIENT, ports[0]), by=ROUTER))
    assert codes(case(hop, talk(CLIENT, ports[1], flow(1), None, refused(CLIENT, ports[1])))) == []


def test_a_listener_that_was_connected_to_one_peer_is_another_fault():
    locked = table(socket("10.1.0.1:7000", "10.0.0.7:40001"))
    assert codes(case(talk(CLIENT, SERVER, flow(1), None, refused()), tables=[locked])) == []


ANOTHER, THIRD = "10.0.0.8:41000", "10.0.0.7:42000"


def beside(*refusals, server="10.0.0.1:53", requests=2, also):
    return talk(CLIENT, server, flow(requests), None, *refusals, also=also)


SERVED_ANOTHER = {
    "before, and so it has ended": (
        beside(refused(CLIENT, "10.0.0.1:53", first=3), also={ANOTHER: flow(9, 1, 2)}),
        ("error", f"it had answered {ANOTHER} before, so its program has ended, or was connected to"),
    ),
    "several before": (
        beside(refused(CLIENT, "10.0.0.1:53", first=3), also={ANOTHER: flow(1, 1), THIRD: flow(1, 2)}),
        ("error", f"it had answered {ANOTHER} before, so its program has ended."),
    ),
    "later": (
        beside(refused(CLIENT, "10.0.0.1:53", first=3), also={ANOTHER: flow(9, 4, 5)}),
        (
            "note",
            f"{ANOTHER} was answered later, so its program (re)started, or NAT on the way changed, in "
            "between",
        ),
    ),
    "a known service, before and after": (
        beside(refused(CLIENT, "10.0.0.1:53", first=3), also={ANOTHER: flow(9, 1, 5)}),
        ("warning", f"yet it answered {ANOTHER} before and after, so its program restarted just then"),
    ),
    "several, before and after": (
        beside(refused(first=3), server=SERVER, also={ANOTHER: flow(1, 1, 4), THIRD: flow(1, 5)}),
        ("warning", f"yet it answered {ANOTHER} before and after"),
    ),
    "between two refusals": (
        beside(refused(CLIENT, "10.0.0.1:53", first=3, last=9, count=2), also={ANOTHER: flow(9, 4, 5)}),
        ("warning", "in between, so"),
    ),
    "by another clock": (
        beside(refused(CLIENT, "10.0.0.1:53", first=3), also={ANOTHER: flow(9, 1, 2, source=1)}),
        ("error", "nobody listens on that port"),
    ),
}


@pytest.mark.parametrize(("conversation", "expected"), SERVED_ANOTHER.values(), ids=SERVED_ANOTHER)
def test_a_server_that_served_another_client(conversation, expected):
    one = found(conversation)[CODE]
    assert (one.severity, expected[1] in one.summary) == (expected[0], True), one.summary


def test_a_client_that_is_not_refused_while_another_one_is():
    waits = talk(ANOTHER, SERVER, flow(2, 1, 5))
    one = found(case(talk(CLIENT, SERVER, flow(1), None, refused(first=3)), waits))[CODE]
    assert (one.severity, f"what {ANOTHER} sent before and after was not refused" in one.summary) == (
        "error",
        True,
    )
    before = talk(ANOTHER, SERVER, flow(2, 1, 2))
    one = found(case(talk(CLIENT, SERVER, flow(1), None, refused(first=3)), before))[CODE]
    assert one.summary.endswith("nobody listens on that port.")


def test_the_server_is_not_to_be_started_where_it_answers():
    later = talk(CLIENT, SERVER, flow(4), AFTER, refused(first=0.1))
    gone = talk(CLIENT, SERVER, flow(4), None, refused(first=0.1))
    assert [[offer.id for offer in advise(found(one)[CODE]).fixes] for one in (later, gone)] == [
        [],
        ["start-server"],
    ]


def test_one_request_that_was_refused_and_answered_reached_two_servers():
    one = found(talk(CLIENT, SERVER, flow(1), flow(1, 12), refused()))[CODE]
    assert one.severity == "note"
    assert "one of several servers behind the address" in one.summary
