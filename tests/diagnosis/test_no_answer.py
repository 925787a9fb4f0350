from dataclasses import replace

import pytest

from .facts_build import CLIENT, CLIENT6, case, codes, flow, found, icmp, talk

CODE = "no-answer"
DNS = "10.0.0.1:53"
ASKED = flow(3, 0, 10)


def asking(server=DNS, client=CLIENT, requests=ASKED, **rest):
    return talk(client, server, requests, None, **{"hears": True, **rest})


def test_a_name_server_that_says_nothing():
    one = found(asking())[CODE]
    assert (one.severity, one.count) == ("warning", 3)
    assert (
        one.summary
        == f"{CLIENT} asked {DNS} 3 times and got neither an answer nor an error, though DNS answers."
    )
    assert one.why[1].startswith("__udp4_lib_rcv() on the server")
    assert "rp_filter" in one.why[1]
    assert [seen.packet for seen in one.evidence] == [1, 10001]


def test_in_ipv6():
    assert "rp_filter" not in found(asking("[fd00::1]:53", CLIENT6))[CODE].why[1]


def test_any_server_that_answers_others():
    one = found(asking("10.0.0.1:7000", hears=False, others=True))[CODE]
    assert "though it answers others" in one.summary


@pytest.mark.parametrize("server", [f"10.0.0.1:{port}" for port in (88, 123, 161, 1812, 3478, 5060)])
def test_protocols_that_answer(server):
    assert codes(asking(server)) == [(CODE, "warning")]


def test_quic_begins_with_a_large_packet():
    assert codes(asking("10.0.0.1:443")) == []
    assert codes(asking("10.0.0.1:443", requests=replace(ASKED, largest=1200))) == [(CODE, "warning")]


def test_ike_asks_from_its_own_port():
    assert codes(asking("10.0.0.1:500", "10.0.0.9:500")) == [(CODE, "warning")]


SILENT = {
    **{
        name: asking(f"10.0.0.1:{port}", others=True)
        for name, port in {
            "syslog": 514,
            "SNMP traps": 162,
            "statsd": 8125,
            "sFlow": 6343,
            "NetFlow": 2055,
            "RTP": 5004,
        }.items()
    },
    "a protocol that nobody knows": asking("10.0.0.1:7000"),
    "TFTP, whose answers make a conversation of their own": asking("10.0.0.1:69"),
    "NetBIOS": asking("10.0.0.1:137", "10.0.0.9:137"),
    "Teredo": asking("10.0.0.1:3544"),
    "NTP peers": asking("10.0.0.1:123", "10.0.0.9:123"),
    "SIP peers": asking("10.0.0.1:5060", "10.0.0.9:5060", others=True),
    "GTP peers": asking("10.0.0.1:2123", "10.0.0.9:2123", others=True),
    "PTP": asking("10.0.0.1:319", "10.0.0.9:319", others=True),
    "mDNS": asking("224.0.0.251:5353", "10.0.0.9:5353", others=True),
    "SSDP": asking("239.255.255.250:1900"),
    "a broadcast": asking("10.0.0.255:161"),
    "DHCP": asking("255.255.255.255:67", "0.0.0.0:68"),
    "a keepalive": asking("10.0.0.1:5060", requests=flow(9, 0, 60, largest=4)),
    "one request": asking(requests=flow(1)),
    "requests close together": asking(requests=flow(5, 0, 0.9)),
    "only this direction was captured": asking(hears=False),
    "the capture ends too soon": case(asking(), until=11.9),
    "the capture is damaged": case(asking(), damage=["cut"]),
    "times are not known": case(asking(), until=None),
    "an error says why": talk(CLIENT, DNS, ASKED, None, icmp((3, 1), (CLIENT, DNS)), hears=True),
    "the reply came from elsewhere": talk(
        CLIENT, DNS, ASKED, None, strays={"10.1.0.1:53": flow(1, 1)}, hears=True
    ),
    "these are the answers to questions that were not captured": asking(CLIENT, DNS, others=True),
    "a scan": case(
        *(asking(f"10.0.0.1:{port}", requests=flow(2, 0, 1.5)) for port in (53, 123, 161, 1812, 5060))
    ),
    "a search for name servers": case(
        *(asking(f"10.0.0.{n}:53", requests=flow(2, 0, 1.5)) for n in range(1, 9))
    ),
    "peers": case(*(asking(f"10.0.{n}.1:7000", others=True) for n in range(4))),
    "a peer that asks others, too, from the port that was asked": case(
        asking("10.0.0.1:30303", others=True), asking("10.0.0.5:20182", "10.0.0.1:30303")
    ),
    "the checksums are wrong": asking(requests=flow(3, 0, 10, bad=1)),
}


@pytest.mark.parametrize("given", SILENT.values(), ids=SILENT)
def test_silent_where(given):
    assert CODE not in found(given)
