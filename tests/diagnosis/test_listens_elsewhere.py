import pytest

from udpkit.diagnosis import diagnose

from .facts_build import (
    CLIENT,
    CLIENT6,
    SERVER,
    SERVER6,
    at,
    case,
    codes,
    flow,
    found,
    host,
    refused,
    socket,
    table,
    talk,
)

CODE = "listens-elsewhere"
ASKED = talk(CLIENT, SERVER, flow(1), None, refused())


def test_the_table_of_the_host_shows_the_port_on_loopback():
    one = found(
        case(ASKED, tables=[table(socket("10.0.0.1:53"), socket("127.0.0.1:7000", process="game", line=3))])
    )[CODE]
    assert (one.severity, one.actual, one.process) == ("error", at("127.0.0.1:7000"), "game")
    assert one.summary == f"{CLIENT} asked {SERVER}, which refused it; the port is open on 127.0.0.1:7000."
    assert "its local address is 127.0.0.1 (line 3)" in one.why[0]
    assert one.evidence[-1].line == 3


def test_it_is_said_instead_of_nobody_listens():
    assert codes(case(ASKED, tables=[table(socket("10.0.0.1:53"), socket("127.0.0.1:7000"))])) == [
        (CODE, "error")
    ]


def test_a_socket_for_ipv4_takes_no_ipv6():
    asked = talk(CLIENT6, SERVER6, flow(1), None, refused(CLIENT6, SERVER6))
    one = found(case(asked, tables=[table(socket("0.0.0.0:7000"), socket("[fd00::1]:53"))]))[CODE]
    assert "it takes IPv4 only" in one.why[0]


def test_whose_table_it_is_may_not_be_known():
    one = found(case(ASKED, tables=[table(socket("127.0.0.1:7000"))]))[CODE]
    assert one.severity == "note"
    assert "if that socket table is of the host" in one.summary
    assert codes(case(ASKED, tables=[table(socket("127.0.0.1:7000"))])) == [
        (CODE, "note"),
        ("nobody-listens", "error"),
    ]


def test_another_address_of_the_host_answers_there():
    other = talk("10.1.0.9:40001", "10.1.0.1:7000", flow(2), flow(1, 3))
    one = found(case(ASKED, other, hosts=[host("", "10.0.0.1", "10.1.0.1")]))[CODE]
    assert (one.severity, one.actual) == ("error", at("10.1.0.1:7000"))
    assert CODE not in found(case(ASKED, other))
    assert CODE not in found(case(ASKED, other, hosts=[host("", "10.1.0.1"), host("b", "10.0.0.1")]))


def test_a_table_of_nobody_knows_whom_says_nothing_where_the_case_has_several_servers():
    other = talk(CLIENT, "10.7.0.1:7000", flow(1), None, refused(CLIENT, "10.7.0.1:7000"))
    both = case(ASKED, other, tables=[table(socket("127.0.0.1:7000"))])
    assert {one.code for one in diagnose(both)} == {"nobody-listens"}


SILENT = {
    "it is the client's own table": [table(socket("127.0.0.1:7000"), socket("10.0.0.9:68"))],
    "a socket waits on the wildcard too": [table(socket("127.0.0.1:7000"), socket("0.0.0.0:7000"))],
    "it is another port": [table(socket("127.0.0.1:7001"))],
    "it is connected": [table(socket("10.1.0.1:7000", "10.1.0.2:9"))],
}


@pytest.mark.parametrize("tables", SILENT.values(), ids=SILENT)
def test_silent_where(tables):
    assert CODE not in found(case(ASKED, tables=tables))


def test_silent_where_it_answers():
    answered = talk(CLIENT, SERVER, flow(3), flow(2), refused())
    assert CODE not in found(case(answered, tables=[table(socket("10.0.0.1:53"), socket("127.0.0.1:7000"))]))
