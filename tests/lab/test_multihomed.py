"""What a server's answers add up to: the verdicts, without a lab."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit.facts import Endpoint, Reference, SocketEntry
from udpkit.lab.multihomed import PLACES, How, Matrix, Outcome, Port, Trial, remedies
from udpkit.lab.multihomed.asking import datagram
from udpkit.lab.multihomed.matrix import judge, takes
from udpkit.lab.multihomed.traced import ways
from udpkit.report.multihomed import document, lines, summary


def at(address: str, port: int = 5000) -> Endpoint:
    return Endpoint(ip_address(address), port)


ASKED, OTHER, OTHER_PORT = at("192.0.2.9"), at("192.0.2.1"), at("192.0.2.9", 5001)


@pytest.mark.parametrize(
    ("answers", "facts", "outcome"),
    [
        ([ASKED], {}, "right"),
        ([ASKED, OTHER], {}, "right"),
        ([OTHER, ASKED], {}, "wrong"),
        ([OTHER_PORT], {}, "wrong"),
        ([OTHER_PORT], {"any_port": True}, "right"),
        ([OTHER], {"any_port": True}, "wrong"),
        ([OTHER], {"refused": True}, "wrong"),
        ([], {}, "silent"),
        ([], {"listens": False}, "silent"),
        ([], {"refused": True}, "refused"),
        ([], {"refused": True, "listens": False}, "absent"),
        ([ASKED], {"status": 0}, "right"),
        ([ASKED], {"status": 1}, "failed"),
        ([OTHER], {"status": 0}, "wrong"),
        ([], {"status": 1}, "silent"),
    ],
)
def test_what_one_request_shows(answers: list[Endpoint], facts: dict[str, object], outcome: Outcome) -> None:
    assert judge(ASKED, answers, **{"refused": False, "listens": True, **facts}) == outcome


@pytest.mark.parametrize(
    ("local", "takes_it"),
    [
        ("0.0.0.0", True),
        ("192.0.2.9", True),
        ("::ffff:192.0.2.9", True),
        ("192.0.2.1", False),
        ("2001:db8::9", False),
        ("::", None),  # it may be IPv6 only
    ],
)
def test_which_socket_is_certain_to_take_a_request(local: str, takes_it: bool | None) -> None:
    entry = SocketEntry(seen=Reference(0, line=1), local=at(local), peer=None)
    assert takes([entry], ASKED) is takes_it
    assert takes([replace(entry, local=at(local, 5001))], ASKED) is None
    assert takes([replace(entry, peer=OTHER)], ASKED) is None


def port(*outcomes: Outcome, how: How | None = None, waits: str = "") -> Port:
    places = PLACES[: len(outcomes)]
    return Port(
        5000,
        "line",
        [
            Trial(
                place,
                "unconnected",
                Endpoint(place.address, 5000),
                outcome,
                actual=OTHER if outcome == "wrong" else None,
                how=how,
            )
            for place, outcome in zip(places, outcomes, strict=True)
        ],
        [at(one) for one in waits.split()],
    )


@pytest.mark.parametrize(
    ("ports", "verdict"),
    [
        ([], "no answer"),
        ([port("right", "right")], "right"),
        ([port("right", "absent")], "right"),
        ([port("right", "untried")], "right"),
        ([port("right", "wrong")], "wrong"),
        ([port("right", "silent")], "partly silent"),
        ([port("right", "refused")], "partly silent"),
        ([port("right", "silent"), port("wrong")], "wrong"),
        ([port("failed")], "wrong"),
        ([port("silent", "silent")], "no answer"),
        ([port("absent")], "no answer"),
        ([port("silent"), port("right")], "right"),
        ([port("wrong", "silent")], "wrong"),
        ([port("right"), port("right", "wrong")], "wrong"),
    ],
)
def test_the_verdict(ports: list[Port], verdict: str) -> None:
    matrix = Matrix(["server"], ports)
    assert matrix.verdict == verdict
    assert bool([one for each in ports for one in each.faults()]) is (verdict in ("wrong", "partly silent"))
    assert summary(matrix).startswith("server ")
    assert document(matrix, [])["verdict"] == verdict


def test_what_the_server_says_cannot_move_the_cursor() -> None:
    matrix = Matrix(["\x1b[2J"], [port("wrong")], process="named")
    shown = "\n".join([*lines(matrix, remedies(matrix)), summary(matrix)])
    assert "\x1b[2J" not in shown
    assert "\\x1b[2J" in shown


def test_the_fix_is_the_servers_own_if_it_has_one() -> None:
    def ids(matrix: Matrix) -> dict[str, str]:
        return {one.id: one.command for one in remedies(matrix)}

    unbound = ids(Matrix(["unbound", "-d"], [port("right", "wrong")], process="unbound"))
    assert "interface-automatic: yes" in unbound["bind"]
    assert unbound["attach"] == "udpkit fix run -- unbound -d"
    assert "192.0.2.9" in ids(Matrix(["x"], [port("right", "wrong")], process="x"))["bind"]
    assert ids(Matrix(["x"], [port("right", "silent")])) == {}


@pytest.mark.parametrize(
    ("waits", "process", "bind"),
    [
        ("0.0.0.0", "python3", "bind the server to 192.0.2.1:5000 instead of 0.0.0.0:5000"),
        ("0.0.0.0 ::", "python3", "bind the server to 192.0.2.1:5000 instead of 0.0.0.0:5000"),
        ("::", "python3", "bind the server to [2001:db8::1]:5000 instead of [::]:5000"),
        ("", "python3", "bind the server to 192.0.2.1:5000 instead of all addresses"),
        ("::", "nc", "nc's command line: nc -6ul 2001:db8::1 5000"),
        ("0.0.0.0", "socat", "socat's command line, after the port: ,bind=192.0.2.1"),
        ("::", "socat", "socat's command line, after the port: ,bind=[2001:db8::1]"),
    ],
)
def test_the_fix_fits_the_wildcard_and_the_program(waits: str, process: str, bind: str) -> None:
    matrix = Matrix(["x"], [port(*["wrong"] * len(PLACES), waits=waits)], process=process)
    assert {one.id: one.command for one in remedies(matrix)}["bind"] == bind


def test_where_only_ipv4_is_wrong_the_fix_is_for_ipv4() -> None:
    matrix = Matrix(["x"], [port("wrong", "right", waits="::")], process="socat")
    assert ",bind=[::ffff:192.0.2.1]" in {one.id: one.command for one in remedies(matrix)}["bind"]


HEADER = b"\x45" + bytes(19)


def test_a_datagram_from_a_raw_socket() -> None:
    udp = struct.pack("!HHHH", 5000, 40000, 13, 0) + b"hello"
    assert datagram(HEADER + udp, "192.0.2.1") == (OTHER, 40000, b"hello")
    assert datagram(b"\x46" + bytes(23) + udp, "192.0.2.1") == (OTHER, 40000, b"hello")
    assert datagram(udp, "fe80::1%eth0") == (at("fe80::1"), 40000, b"hello")
    assert datagram(HEADER + udp[:7], "192.0.2.1") is None


@given(st.binary(max_size=100), st.sampled_from(["192.0.2.1", "fe80::1"]))
def test_garbage_from_a_raw_socket(data: bytes, sender: str) -> None:
    datagram(data, sender)


LOG = """\
7 socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3
7 bind(3, {sa_family=AF_INET, sin_port=htons(5000), sin_addr=inet_addr("%s")}, 16) = 0
7 recvfrom(3, ""..., 99, 0, %s, [16]) = 5
%s
"""
PEER = '{sa_family=AF_INET, sin_port=htons(40001), sin_addr=inet_addr("192.0.2.2")}'
PKTINFO = (
    "{cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=IP_PKTINFO, cmsg_data={ipi_ifindex=0, "
    'ipi_spec_dst=inet_addr("192.0.2.9"), ipi_addr=inet_addr("0.0.0.0")}}'
)


@pytest.mark.parametrize(
    ("bound", "answer", "told"),
    [
        ("0.0.0.0", f'7 sendto(3, ""..., 5, 0, {PEER}, 16) = 5', "sendto(), the route chose the source"),
        (
            "192.0.2.9",
            f'7 sendto(3, ""..., 5, 0, {PEER}, 16) = 5',
            "sendto(), the socket is bound to one address",
        ),
        (
            "0.0.0.0",
            f'7 connect(3, {PEER}, 16) = 0\n7 write(3, ""..., 5) = 5',
            "write(), connect() had chosen the source",
        ),
        (
            "0.0.0.0",
            f'7 sendmsg(3, {{msg_name={PEER}, msg_namelen=16, msg_iov=[{{iov_base=""..., iov_len=5}}], '
            f"msg_iovlen=1, msg_control=[{PKTINFO}], msg_controllen=32, msg_flags=0}}, 0) = 5",
            "sendmsg(), IP_PKTINFO chose the source",
        ),
    ],
)
def test_how_an_answer_was_sent(bound: str, answer: str, told: str) -> None:
    log = (LOG % (bound, PEER, answer)).encode()
    assert {key: str(how) for key, how in ways(log).items()} == {40001: told}


@pytest.mark.parametrize("log", [b"", b"\xff\x00\x1b[2J", b"7 sendto(3"])
def test_a_log_without_answers(log: bytes) -> None:
    assert ways(log) == {}
