"""The requests, as somebody else reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from evidence.build import datagram, frame, pcap

from udpkit.evidence.programs import SEARCH_PATH
from udpkit.probe.protocols import PROTOCOLS

from .replies import UNIQUE

READ = {
    "dns": ("DNS", "Standard query 0x0102 NS <Root>"),
    "mdns": ("MDNS", "Standard query 0x0102 PTR _services._dns-sd._udp.local"),
    "netbios": ("NBNS", "Name query NBSTAT *"),
    "snmp": ("SNMP", "get-request 1.3.6.1.2.1.1.1.0"),
    "kerberos": ("KRB5", "AS-REQ"),
    "ntp": ("NTP", "NTP Version 4, client"),
    "stun": ("STUN", "Binding Request"),
    "tftp": ("TFTP", "Read Request, File: udpkit-probe, Transfer type: octet"),
    "radius": ("RADIUS", "Status-Server"),
    "rpc": ("Portmap", "V2 NULL Call"),
    "coap": ("CoAP", "CON, MID:1286, GET, TKN:01 02 03 04, /.well-known/core"),
    "sip": ("SIP", "Request: OPTIONS sip:udpkit.invalid"),
    "ssdp": ("SSDP", "M-SEARCH * HTTP/1.1"),
    "memcached": ("MEMCACHE", ""),
    "a2s": ("UDP", "Len=25"),  # tshark does not know it
    "syslog": ("Syslog", "USER.DEBUG: 1 - - udpkit - - - probe"),
    "echo": ("ECHO", "Request"),
    "daytime": ("DAYTIME", "DAYTIME Request"),
    "chargen": ("Chargen", "Chargen"),
    "line": ("UDP", "Len=13"),
    "quic": ("QUIC", "Initial, DCID=0102030405060708, SCID=090a0b0c0d0e0f10"),
    "dtls": ("DTLS", "Client Hello"),
    "ike": ("ISAKMP", "IKE_SA_INIT MID=00 Initiator Request"),
    "ike-nat": ("ISAKMP", "IKE_SA_INIT MID=00 Initiator Request"),
    "wireguard": ("WireGuard", "Handshake Initiation, sender=0x04030201"),
    "openvpn": ("OpenVPN", "P_CONTROL_HARD_RESET_CLIENT_V2"),
    "l2tp": ("L2TP", "Control Message - SCCRQ"),
    "gtp": ("GTP", "Echo request"),
    "gtp2": ("GTPv2", "Echo Request"),
    "pfcp": ("PFCP", "PFCP Heartbeat Request"),
}
"""name: (tshark's protocol column, what its information column must have in it)"""

ARGUMENTS = {
    "dns": ("name.example", "A name.example"),
    "mdns": ("server.local", "ANY server.local"),
    "snmp": ("secret", "get-request"),
    "kerberos": ("LAB.EXAMPLE", "AS-REQ"),
    "tftp": ("/boot/image", "File: /boot/image"),
    "radius": ("hush", "Status-Server"),
    "rpc": ("100003", "V2 NULL Call"),
    "coap": ("a/" + "b" * 20, "/a/" + "b" * 20),
    "sip": ("example.org", "OPTIONS sip:example.org"),
    "ssdp": ("ssdp:all", "M-SEARCH"),
}
"""name: (an argument, what tshark then says)"""


def read(path: Path, requests: list[tuple[int, bytes]]) -> list[list[str]]:
    """Protocol, information, and what tshark complains of, for each (port, payload)."""
    if shutil.which("tshark", path=SEARCH_PATH) is None:
        pytest.skip("tshark is not installed")
    path.write_bytes(
        pcap(
            *(
                frame(datagram("192.0.2.1", 41000 + place, "192.0.2.2", port, payload))
                for place, (port, payload) in enumerate(requests)
            )
        )
    )
    fields = ("_ws.col.Protocol", "_ws.col.Info", "_ws.malformed")
    argv = ["tshark", "-nr", str(path), "-T", "fields", *(word for one in fields for word in ("-e", one))]
    run = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": SEARCH_PATH})
    return [line.split("\t") for line in run.stdout.splitlines()]


def test_tshark_reads_each_request_as_what_it_is(tmp_path):
    ports = {name: (*one.ports, 2123 if name == "gtp2" else 56789)[0] for name, one in PROTOCOLS.items()}
    requests = [(ports[name], one.request(UNIQUE, None)) for name, one in PROTOCOLS.items()]
    for name, (protocol, info, malformed) in zip(PROTOCOLS, read(tmp_path / "x.pcap", requests), strict=True):
        said, part = READ[name]
        assert (protocol.rstrip("v1.02") if name == "dtls" else protocol, malformed) == (said, ""), name
        assert part in info, name


def test_tshark_reads_the_arguments(tmp_path):
    assert set(ARGUMENTS) == {name for name, one in PROTOCOLS.items() if one.argument}
    requests = [
        (PROTOCOLS[name].ports[0], PROTOCOLS[name].request(UNIQUE, one[0])) for name, one in ARGUMENTS.items()
    ]
    for name, (_, info, malformed) in zip(ARGUMENTS, read(tmp_path / "x.pcap", requests), strict=True):
        assert ARGUMENTS[name][1] in info, name
        assert not malformed, name


@pytest.mark.parametrize("name", PROTOCOLS)
def test_two_requests_differ_where_the_protocol_has_room_for_it(name):
    protocol = PROTOCOLS[name]
    same = protocol.request(UNIQUE, None) == protocol.request(bytes(range(100, 116)), None)
    assert same is (name in {"tftp", "ssdp", "a2s", "syslog", "line"})


def test_a_request_fits_one_packet_of_any_path():
    """1280 bytes is IPv6's smallest MTU (RFC 8200, section 5); less its header and UDP's."""
    assert all(len(one.request(UNIQUE, None)) <= 1280 - 40 - 8 for one in PROTOCOLS.values())


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("ntp", "x", "ntp takes no argument"),
        ("line", "x", "line takes no argument"),
        ("dns", "", "dns: '' cannot be the name to ask for: 1 to 255 bytes of text"),
        ("dns", "a..b", "dns: 'a..b' is not a DNS name: A DNS label is empty."),
        ("dns", "a" * 64, f"dns: '{'a' * 64}' is not a DNS name: A DNS label is > 63 octets long."),
        ("snmp", "x\ny", "snmp: 'x\\ny' cannot be the community: 1 to 255 bytes of text"),
        ("radius", "x" * 256, f"radius: '{'x' * 256}' cannot be the shared secret: 1 to 255 bytes of text"),
        ("tftp", "\udcff", "tftp: '\\udcff' cannot be the file to read: 1 to 255 bytes of text"),
        ("rpc", "nfs", "rpc: 'nfs' is not a program's number, such as 100000"),
        ("rpc", "4294967296", "rpc: '4294967296' is not a program's number, such as 100000"),
        ("sip", "a b", "sip: 'a b' has a space in it"),
    ],
)
def test_a_bad_argument_is_one_clear_line(name, argument, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        PROTOCOLS[name].request(UNIQUE, argument)
    assert str(raised.value) == message
