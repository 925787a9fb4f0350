"""Real servers, asked by `udpkit probe` at the address that the route prefers and at the host's other one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import NEAR, SECOND, begin, end, probe, unlimited
from .conftest import Path as Way
from .servers import SERVERS, start

RIGHT, WRONG = "open", "wrong-source"
CASES = {
    "charon": (RIGHT, "IKEv2: NO_PROPOSAL_CHOSEN"),
    "chronyd": (RIGHT, "NTP: stratum 10"),
    "coap-server": (RIGHT, "CoAP: 2.05 Content"),
    "dnsmasq": (RIGHT, "DNS: REFUSED, 0 answers"),
    "dnsmasq-tftp": (RIGHT, "TFTP: error 1 .*"),
    "freeradius": (RIGHT, "RADIUS: Access-Accept"),
    "gtlsserver": (RIGHT, "QUIC: version 1"),
    "in.tftpd": (RIGHT, "TFTP: error .*"),
    "kamailio": (WRONG, 'SIP: 200 OK from "kamailio .*'),
    "krb5kdc": (RIGHT, "Kerberos: KDC_ERR_.*"),
    "memcached": (WRONG, r"memcached: VERSION \d.*"),
    "miniupnpd": (WRONG, 'SSDP: ".*MiniUPnPd.*'),
    "nmbd": (RIGHT, "NetBIOS: SERVER, LAB"),
    "openssl": (WRONG, "DTLS: HelloVerifyRequest"),
    "openvpn": (RIGHT, "OpenVPN: (server's hard reset|acknowledged)"),
    "osmo-ggsn": (WRONG, "GTP: echo response"),
    "rpcbind": (RIGHT, "RPC: success"),
    "snmpd": (RIGHT, 'SNMP: "the lab\'s snmpd"'),
    "turnserver": (RIGHT, r"STUN: we are 192\.0\.2\.2:\d+"),
    "unbound": (WRONG, "DNS: REFUSED, 0 answers"),
    "xinetd": (WRONG, "echo: the same bytes"),
    "xl2tpd": (WRONG, 'L2TP: SCCRP from ".*'),
}
"""The verdict at the second address, and the answer's name at both."""


@pytest.mark.parametrize("name", CASES)
def test_a_server_on_a_host_with_two_addresses(near: Way, tmp_path: Path, name: str) -> None:
    verdict, answer = CASES[name]
    port = SERVERS[name].port
    running = start(name, near.server, tmp_path)
    outcome = probe(near.client, f"{NEAR[4]},{SECOND[4]}", port)
    for asked, expected in ((NEAR[4], RIGHT), (SECOND[4], verdict)):
        result = outcome.one(port, asked)
        assert result["state"] == expected, (result, running.last_words())
        assert re.fullmatch(answer, result["answer"] or ""), result
        assert result["reply_from"].startswith(f"{NEAR[4] if expected is WRONG else asked}:")
    assert outcome.status == (1 if verdict is WRONG else 0)


def test_avahi_answers_from_one_of_the_interfaces_addresses_whichever_was_asked(
    near: Way, tmp_path: Path
) -> None:
    start("avahi-daemon", near.server, tmp_path)
    outcome = probe(near.client, f"{NEAR[4]},{SECOND[4]}", 5353)
    assert sorted(result["state"] for result in outcome.results) == [RIGHT, WRONG]
    assert len({result["reply_from"] for result in outcome.results}) == 1
    assert all(result["answer"].startswith("mDNS: NOERROR") for result in outcome.results)


@pytest.mark.parametrize("name", sorted(SERVERS.keys() - {"avahi-daemon"}))
def test_every_server_has_its_case(name: str) -> None:
    assert name in CASES


def test_a_server_that_is_killed_and_restarted(near: Way, tmp_path: Path) -> None:
    """Killed while it is probed among others, and asked again afterwards."""
    unlimited(near.server)
    running = start("memcached", near.server, tmp_path)
    assert probe(near.client, NEAR[4], 11211).states() == {11211: "open"}
    during = begin(near.client, NEAR[4], "11200-11230")
    running.stop()
    assert end(during).one(11211)["state"] in {"open", "closed"}
    assert probe(near.client, NEAR[4], 11211).states() == {11211: "closed"}
