"""What the system calls of a program show, from recorded logs and their silent twins."""

from pathlib import Path

import pytest

from udpkit.diagnosis import Finding, diagnose
from udpkit.diagnosis.traced_errors import refused_calls
from udpkit.evidence import Evidence, read_strace
from udpkit.facts import Case

from . import facts_build as facts

LOGS = Path(__file__).parent.parent / "evidence" / "strace"
WILDCARD, LOCKED = "wildcard-without-pktinfo", "listener-locked-to-first-peer"


def case(log: str) -> Case:
    source, sockets = read_strace(Evidence.of("x.strace", log.encode()), source=0)
    return Case([source], traces=sockets)


def recorded(name: str) -> Case:
    return case((LOGS / f"{name}.strace").read_text())


def codes(log: str) -> list[str]:
    return [one.code for one in diagnose(case(log))]


def lines(finding: Finding) -> list[int | None]:
    return [seen.line for seen in finding.evidence]


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "dnsmasq": [],
        "dual-stack-kdc": [WILDCARD],
        "nc-listen": [LOCKED],
        "ncat-probe": [],
        "dig-refused-T": ["nobody-listens"],
        "dig-y": [],
        "dnsmasq-yy": [],
        "nc-listen-tt": [],  # bound to an address
        "nc-wildcard-ttt": [LOCKED],
        "ncat-client-X": [],
        "ncat-listen-X": [LOCKED],  # its other socket waits for IPv6 only
        "socat-fork-r": [],
        "error-queue": ["nobody-listens"],
        "late-reply": ["late-reply"],
        "udpkit-mmsg": [],
    }.items(),
)
def test_recorded_logs(name, expected):
    assert [one.code for one in diagnose(recorded(name))] == expected


def test_the_dual_stack_server_is_named_with_its_client_and_lines():
    [found] = diagnose(recorded("dual-stack-kdc"))
    assert (found.severity, found.process, found.count) == ("warning", "pid 477", 1)
    assert (str(found.client), str(found.server), found.actual) == ("172.17.0.3:38790", "[::]:6088", None)
    assert "dual-stack" in found.summary
    assert "routed IPv4 address" in found.summary
    assert lines(found) == [4, 6, 7]
    functions = ["__udp4_lib_lookup()", "udpv6_recvmsg()", "ip_route_output_flow()", "__udp4_lib_lookup()"]
    assert [step.split(" on the ")[0] for step in found.why] == functions


def test_the_locked_listener_is_named_with_its_peer_and_lines():
    [found] = diagnose(recorded("nc-listen"))
    assert (found.severity, str(found.client), found.server) == ("warning", "172.17.0.2:57190", None)
    assert lines(found) == [1, 2]


def inet(address: str, port: int) -> str:
    return f'{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr("{address}")}}'


CLIENT = inet("10.0.0.3", 40000)
SOCKET = "socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3\n"
BIND = f"bind(3, {inet('0.0.0.0', 7000)}, 16) = 0\n"
RECV = f'recvfrom(3, "x", 9, 0, {CLIENT}, [16]) = 1\n'
PEEK = RECV.replace(", 9, 0,", ", 9, MSG_PEEK,")
SEND = f'sendto(3, "x", 1, 0, {CLIENT}, 16) = 1\n'
CONNECT = f"connect(3, {CLIENT}, 16) = 0\n"


def sendmsg(control: str) -> str:
    return f'sendmsg(3, {{msg_name={CLIENT}, msg_iov=[{{iov_base="x", iov_len=1}}], {control}}}, 0) = 1\n'


CHOSEN = sendmsg("msg_control=[{cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=IP_PKTINFO}], msg_controllen=32")
PKTINFO = "setsockopt(3, SOL_IP, IP_PKTINFO, [1], 4) = 0\n"


def option(name: str, value: str = "[1]") -> str:
    return f"setsockopt(3, SOL_X, {name}, {value}, 4) = 0\n"


@pytest.mark.parametrize("answer", [SEND, sendmsg("msg_controllen=0")])
@pytest.mark.parametrize("asked", [RECV, PKTINFO + RECV])
def test_a_server_that_chooses_no_source(asked, answer):
    [found] = diagnose(case(SOCKET + BIND + asked + answer + answer))
    assert (found.code, found.count, str(found.server)) == (WILDCARD, 2, "0.0.0.0:7000")


@pytest.mark.parametrize(
    "log",
    [
        SOCKET + BIND + RECV,
        SOCKET + BIND + SEND + RECV + SEND,  # it asked
        SOCKET + RECV + SEND,
        SOCKET + BIND + RECV + CHOSEN,
        SOCKET + BIND + RECV + sendmsg("msg_control=0x7ffd, msg_controllen=32"),
        SOCKET + BIND.replace("0.0.0.0", "10.0.0.1") + RECV + SEND,
        SOCKET + BIND.replace("7000", "40000") + RECV + SEND,  # one port on both sides
        SOCKET + BIND.replace("7000", "67") + RECV + SEND,
        SOCKET + BIND + (RECV + SEND).replace("40000", "53"),
        SOCKET + BIND + option("SO_BINDTODEVICE", '"eth0\\0"') + RECV + SEND,
        SOCKET + BIND + option("IP_ADD_MEMBERSHIP", "{imr_multiaddr=1}") + RECV + SEND,
        SOCKET + BIND + RECV + SEND + SEND.replace("10.0.0.3", "255.255.255.255"),
        SOCKET + BIND + RECV + SEND.replace("(3", "(4"),  # from another socket
        "getsockname(3, " + inet("0.0.0.0", 45000) + ", [16]) = 0\n" + (RECV + SEND).replace("40000", "6000"),
    ],
)
def test_silent_twins_of_such_a_server(log):
    assert codes(log) == []


def test_of_many_clients_the_first_is_named():
    exchanges = [(RECV + SEND).replace("40000", str(40000 + n)) for n in range(20)]
    assert codes(SOCKET + BIND + "".join(exchanges[:3])) == [WILDCARD]  # one client, three ports
    others = [one.replace("10.0.0.3", f"10.0.0.{n}") for n, one in enumerate(exchanges, start=1)]
    assert codes(SOCKET + BIND + "".join(others[:8])) == [WILDCARD] * 8
    [found] = diagnose(case(SOCKET + BIND + "".join(others)))
    assert "10.0.0.1:40000 and 19 others" in found.summary


@pytest.mark.parametrize("first", [RECV, PEEK])
def test_a_listener_that_connects(first):
    [found] = diagnose(case(SOCKET + BIND + first + CONNECT))
    assert (found.code, found.severity, lines(found)) == (LOCKED, "warning", [2, 3, 4])
    refused = 'write(3, "x", 1) = 1\nread(3, 0x1, 9) = -1 ECONNREFUSED (Connection refused)\n'
    [found] = diagnose(case(SOCKET + BIND + first + CONNECT + refused))
    assert (found.code, found.severity, lines(found)) == (LOCKED, "error", [2, 3, 4, 6])


@pytest.mark.parametrize(
    "log",
    [
        SOCKET + BIND + SEND + RECV + CONNECT,
        SOCKET + CONNECT + SEND + RECV,
        SOCKET + BIND + CONNECT + RECV,
        SOCKET + BIND.replace("0.0.0.0", "10.0.0.1") + PEEK + CONNECT,
        SOCKET + BIND + PEEK + CONNECT.replace("10.0.0.3", "10.0.0.4"),
        SOCKET + BIND + PEEK + CONNECT + "connect(3, {sa_family=AF_UNSPEC}, 16) = 0\n",
        SOCKET + BIND + PEEK + (SOCKET + BIND + CONNECT).replace("(3", "(4").replace("= 3", "= 4"),
        SOCKET + BIND + PEEK + CONNECT + (SOCKET + BIND).replace("(3", "(4").replace("= 3", "= 4"),
        SOCKET + BIND + (PEEK + CONNECT).replace("40000", "53"),
    ],
)
def test_silent_twins_of_such_a_listener(log):
    assert LOCKED not in codes(log)


REFUSED = "recvfrom(3, 0x1, 9, 0, NULL, NULL) = -1 ECONNREFUSED (Connection refused)\n"


def test_an_error_is_about_the_datagram_before():
    [found] = diagnose(case(SOCKET + CONNECT + SEND + REFUSED))
    assert (found.code, found.severity, lines(found)) == ("nobody-listens", "warning", [3, 4])
    assert found.summary == (
        "line 4: recvfrom() failed with ECONNREFUSED: the error is about the datagram that sendto() sent to "
        "10.0.0.3:40000 at line 3."
    )
    [unsure] = diagnose(case(SOCKET + CONNECT + SEND + SEND + REFUSED))
    assert (unsure.severity, lines(unsure)) == ("note", [4, 5])
    assert "one of the 2 datagrams" in unsure.summary
    assert "the last of them sent by sendto() at line 4" in unsure.summary


def test_of_calls_that_are_alike_only_the_first_and_the_last_have_a_line():
    two, taken = SEND + SEND, SOCKET + CONNECT
    [first] = diagnose(case(taken + two + REFUSED + SEND))
    assert "one of the 2 datagrams to 10.0.0.3:40000 before, the first of them sent" in first.summary
    assert lines(first) == [3, 5]
    gone = "getsockopt(3, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]) = 0\n"
    for sends, about in ((two, "one of the 2 datagrams to"), (SEND, "the datagram to")):
        log = case(taken + SEND + gone + sends + REFUSED + SEND)
        _, unlisted = refused_calls(log, "nobody-listens")
        assert f"about {about} 10.0.0.3:40000 before." in unlisted.summary
        assert len(unlisted.evidence) == 1


def test_a_datagram_that_is_too_long_does_not_get_as_far_as_the_route():
    [found] = diagnose(case(SOCKET + CONNECT + SEND.replace("= 1", "= -1 EMSGSIZE (x)")))
    assert (found.code, found.severity) == ("datagram-too-big", "note")
    assert found.why[0].startswith("__ip_append_data() on the sender: the datagram is longer than")


def test_a_refused_answer_says_nothing_of_the_server():
    bind = BIND.replace("0.0.0.0", "10.0.0.1")
    [found] = diagnose(case(SOCKET + bind + RECV + CONNECT + SEND + REFUSED))
    assert (found.code, found.severity, str(found.client)) == ("late-reply", "note", "10.0.0.3:40000")


@pytest.mark.parametrize(
    ("offender", "code", "expected"),
    [
        ("10.0.0.3", 3, "nobody-listens"),
        ("10.0.0.254", 3, "prohibited"),
        ("10.0.0.254", 13, "prohibited"),
        ("10.0.0.254", 1, "unreachable"),
    ],
)
def test_the_error_queue_tells_who_sent_what(offender, code, expected):
    errno = 111 if code == 3 else 113
    queue = (
        f"recvmsg(3, {{msg_name={CLIENT}, msg_control=[{{cmsg_len=48, cmsg_level=SOL_IP, "
        f"cmsg_type=IP_RECVERR, cmsg_data={{ee_errno={errno}, ee_origin=2, ee_type=3, "
        f"ee_code={code}, ee_info=0, ee_data=0, "
        f"offender={inet(offender, 0)}}}}}], msg_flags=MSG_ERRQUEUE}}, MSG_ERRQUEUE) = 1\n"
    )
    log = case(SOCKET + option("IP_RECVERR") + SEND + REFUSED + queue)
    [found] = diagnose(log)
    assert (found.code, found.severity, lines(found)) == (expected, "warning", [3, 5])
    assert offender in found.summary


def test_a_call_that_its_own_host_stops_reports_nothing_from_outside():
    [found] = diagnose(case(SOCKET + CONNECT + SEND.replace("= 1", "= -1 EPERM (x)")))
    assert (found.code, found.severity) == ("prohibited", "note")
    assert "own host" in found.summary


@pytest.mark.parametrize(
    "log",
    [
        SOCKET + CONNECT.replace(" = 0", " = -1 ECONNREFUSED (x)"),
        "".join(
            (SOCKET + CONNECT + SEND + REFUSED).replace("40000", str(port)) for port in (7001, 7002, 7003)
        ),
        SOCKET + option("IP_TTL") + CONNECT + SEND + REFUSED,
    ],
)
def test_a_program_that_looks_for_what_refuses_finds_what_it_wants(log):
    assert codes(log) == []


def test_a_refusal_between_answers_is_a_note():
    [found] = diagnose(case(SOCKET + CONNECT + SEND + REFUSED + SEND + RECV))
    assert (found.code, found.severity) == ("nobody-listens", "note")


DNS = CONNECT.replace("40000", "53")
ASK = SEND.replace("40000", "53") + "poll([{fd=3, events=POLLIN}], 1, 5000) = 0 (Timeout)\n"


@pytest.mark.parametrize(("times", "severity"), [(1, "note"), (3, "warning")])
@pytest.mark.parametrize("connect", [DNS, ""])
def test_a_resolver_that_does_not_answer(connect, times, severity):
    [found] = diagnose(case(SOCKET + connect + ASK * times))
    assert (found.code, found.severity, found.count) == ("no-answer", severity, times)
    assert str(found.server) == "10.0.0.3:53"


@pytest.mark.parametrize(
    "log",
    [
        SEND * 9,
        ASK.replace("5000", "10") * 3,
        ASK * 3 + RECV.replace("40000", "53"),
        DNS + ASK * 3 + (SOCKET + DNS + SEND + RECV).replace("40000", "53").replace("(3", "(4"),
        ASK.replace(":53", "").replace("htons(53)", "htons(30000)") * 3,
        ASK.replace("10.0.0.3", "224.0.0.1") * 3,
    ],
)
def test_silent_twins_of_such_a_resolver(log):
    assert "no-answer" not in codes(SOCKET + log)


def with_capture(log: str, *errors: tuple[int, str]) -> list[Finding]:
    """The case of a log, with a capture in which the same datagram met ICMP errors: code, and by whom."""
    traced = case(log)
    asked = facts.talk(
        "10.0.0.9:50000",
        "10.0.0.3:40000",
        facts.flow(1),
        None,
        *(facts.icmp((3, code), ("10.0.0.9:50000", "10.0.0.3:40000"), by=by) for code, by in errors),
    )
    return diagnose(facts.case(asked, traces=traced.traces))


def test_a_refusal_that_a_capture_shows_as_well_is_one_finding():
    log = SOCKET + CONNECT + SEND + REFUSED
    [alone] = diagnose(case(log))
    [one] = with_capture(log, (3, "10.0.0.3"))
    assert (one.code, one.severity, str(one.client)) == ("nobody-listens", "error", "10.0.0.9:50000")
    assert one.why[-1] == alone.summary
    assert lines(one)[-2:] == lines(alone)


def test_what_a_capture_shows_of_an_error_says_what_it_was():
    """EHOSTUNREACH of a call that sends may be the own host's, or an error's of before."""
    log = SOCKET + CONNECT + SEND + SEND.replace(" = 1", " = -1 EHOSTUNREACH (No route to host)")
    [alone] = diagnose(case(log))
    assert (alone.code, "own host" in alone.summary) == ("unreachable", True)
    [one] = with_capture(log, (13, "10.0.0.254"))
    assert (one.code, "own host" in one.why[-1]) == ("prohibited", False)
    found = with_capture(log, (3, "10.0.0.3"))
    assert sorted(one.code for one in found) == ["nobody-listens", "unreachable"]
