"""Real servers answer the requests, and their answers are named."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sockets.conftest import open_on

from udpkit.lab import Host, Lab
from udpkit.probe.protocols import LINE, PROTOCOLS
from udpkit.sockets import Socket

from ..servers import SERVERS, start

CLIENT = {4: "192.0.2.2", 6: "2001:db8::2"}
ASKED = {4: "192.0.2.1", 6: "2001:db8::1"}

BOTH, ONLY_IPV4 = (4, 6), (4,)
CASES = [
    ("dnsmasq", "dns", None, "DNS: REFUSED, 0 answers", BOTH),  # it has nobody to ask
    ("dnsmasq", "dns:name.example", None, "DNS: NOERROR, 1 answer", BOTH),
    ("unbound", "dns", None, "DNS: REFUSED, 0 answers", BOTH),  # does not recurse, so nothing from its cache
    ("unbound", "dns:name.example", None, "DNS: NOERROR, 1 answer", BOTH),
    ("avahi-daemon", "mdns", None, "mDNS: NOERROR, 1 answer", BOTH),
    ("avahi-daemon", "mdns:server.local", None, r"mDNS: NOERROR, \d answers?", BOTH),
    ("nmbd", "netbios", None, "NetBIOS: SERVER, LAB", ONLY_IPV4),
    ("snmpd", "snmp", None, 'SNMP: "the lab\'s snmpd"', BOTH),
    ("krb5kdc", "kerberos", None, "Kerberos: KDC_ERR_C_PRINCIPAL_UNKNOWN", BOTH),
    ("chronyd", "ntp", None, "NTP: stratum 10", BOTH),
    ("turnserver", "stun", None, r"STUN: we are (192\.0\.2\.2|\[2001:db8::2\]):\d+", BOTH),
    ("in.tftpd", "tftp:/none", None, r'TFTP: error 2 "Forbidden directory"', BOTH),
    ("dnsmasq-tftp", "tftp", None, 'TFTP: error 1 "file .*', BOTH),
    ("dnsmasq-tftp", "tftp:hello", None, "TFTP: data, 6 bytes", BOTH),
    ("freeradius", "radius", None, "RADIUS: Access-Accept", BOTH),
    ("rpcbind", "rpc", None, "RPC: success", BOTH),
    ("rpcbind", "rpc:100003", None, "RPC: program unavailable", BOTH),
    ("coap-server", "coap", None, "CoAP: 2.05 Content", BOTH),
    ("coap-server", "coap:none", None, "CoAP: 4.04 Not Found", BOTH),
    ("kamailio", "sip", None, 'SIP: 200 OK from "kamailio .*', BOTH),
    ("miniupnpd", "ssdp", None, 'SSDP: ".*MiniUPnPd.*', BOTH),
    ("memcached", "memcached", None, r"memcached: VERSION \d.*", BOTH),
    ("xinetd", "echo", 7, "echo: the same bytes", BOTH),
    ("xinetd", "daytime", 13, r'daytime: "\d.*', BOTH),
    ("xinetd", "chargen", 19, r"chargen: \d+ characters", BOTH),
    ("gtlsserver", "quic", None, "QUIC: version 1", BOTH),
    ("openssl", "dtls", None, "DTLS: HelloVerifyRequest", BOTH),
    ("charon", "ike", None, "IKEv2: NO_PROPOSAL_CHOSEN", BOTH),
    ("charon", "ike-nat", 4500, "IKEv2: NO_PROPOSAL_CHOSEN", BOTH),
    ("openvpn", "openvpn", None, "OpenVPN: server's hard reset", ONLY_IPV4),
    ("xl2tpd", "l2tp", None, 'L2TP: SCCRP from ".*', ONLY_IPV4),
    ("osmo-ggsn", "gtp", None, "GTP: echo response", ONLY_IPV4),
]
"""(server, as in --as, port if not its first, what is said, IP versions that it serves)"""


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """A server and a client on one cable; the server's route to everywhere leads to the client."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.link(server, "eth0", client, "eth0")
        server.address("eth0", *(f"{ASKED[4]}/24", f"{ASKED[6]}/64"))
        client.address("eth0", *(f"{CLIENT[4]}/24", f"{CLIENT[6]}/64"))
        yield server, client


@pytest.mark.parametrize(
    ("name", "asked_as", "port", "said", "versions"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES]
)
def test_a_real_server_answers(
    hosts: tuple[Host, Host],
    tmp_path: Path,
    name: str,
    asked_as: str,
    port: int | None,
    said: str,
    versions: tuple[int, ...],
) -> None:
    server, client = hosts
    running = start(name, server, tmp_path)
    spoken, _, argument = asked_as.partition(":")
    asked_port = port or SERVERS[name].port
    server.wait_for_port(asked_port, running)
    protocol = PROTOCOLS[spoken]
    for version in versions:
        request = protocol.request(os.urandom(16), argument or None)
        with open_on(client, partial(Socket, CLIENT[version], timeout=1)) as asker:
            for _ in range(20):  # a port is open a little before its server reads from it
                asker.send(request, (ASKED[version], asked_port))
                try:
                    reply = asker.recv()
                except TimeoutError:
                    continue
                break
            else:
                pytest.fail(f"no answer: {running.last_words()}")
        answer = protocol.recognise(request, reply.data)
        assert answer, reply.data
        assert re.fullmatch(said, answer), answer
        assert str(reply.peer.address) == ASKED[version]
        assert (reply.peer.port != asked_port) is protocol.other_port


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_every_server_is_asked(name: str) -> None:
    assert name in {case[0] for case in CASES}


def test_a_line_is_echoed(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    server, client = hosts
    start("xinetd", server, tmp_path)
    request = LINE.request(os.urandom(16), None)
    with open_on(client, partial(Socket, CLIENT[4], timeout=20)) as asker:
        asker.send(request, (ASKED[4], 7))
        assert LINE.recognise(request, asker.recv().data) == "echo"
