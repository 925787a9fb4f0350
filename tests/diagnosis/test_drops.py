"""What the kernel says it dropped, as findings."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from udpkit.diagnosis import diagnose
from udpkit.facts import (
    Case,
    Conversation,
    Drops,
    Endpoint,
    Errors,
    Flow,
    IcmpError,
    Moment,
    Reference,
    Source,
)
from udpkit.fixes import advise

CLIENT = Endpoint(ip_address("192.0.2.2"), 40000)
SERVER = Endpoint(ip_address("192.0.2.1"), 5000)


def moment(number: int) -> Moment:
    return Moment(number, number * 10**9, Reference(0, packet=number))


def case(drops: Drops) -> Case:
    return Case([Source("skb:kfree_skb", "drops")], drops=[drops])


def dropped(reason: str) -> Drops:
    return Drops(CLIENT, SERVER, reason, "some_function", 3, moment(1), moment(3), process="served")


CODES = {
    "NETFILTER_DROP": "dropped-by-firewall",
    "IP_RPFILTER": "dropped-by-rp-filter",
    "SOCKET_RCVBUFF": "receive-buffer-overflow",
    "UDP_CSUM": "bad-checksum",
}


@pytest.mark.parametrize(("reason", "code"), CODES.items())
def test_a_reason_is_a_finding(reason: str, code: str) -> None:
    [finding] = diagnose(case(dropped(reason)))
    assert (finding.code, finding.severity, finding.count) == (code, "error", 3)
    assert (finding.client, finding.server, finding.process) == (CLIENT, SERVER, "served")
    assert (finding.first, finding.last) == (10**9, 3 * 10**9)
    assert f"3 datagrams from {CLIENT}" in finding.summary
    assert any("some_function()" in step for step in finding.why)
    assert [seen.packet for seen in finding.evidence] == [1, 3]
    if code != "bad-checksum":
        assert advise(finding).fixes


@pytest.mark.parametrize("reason", CODES)
def test_of_answers_the_ends_change_places(reason: str) -> None:
    answers = replace(dropped(reason), source=SERVER, destination=CLIENT, answers=True)
    [finding] = diagnose(case(answers))
    assert (finding.client, finding.server) == (CLIENT, SERVER)


def refused(second: int) -> Conversation:
    """The request, and port unreachable from the server at that second."""
    error = IcmpError(moment(second).seen, second, SERVER.address, CLIENT.address, 3, 3, CLIENT, SERVER)
    errors = Errors(error, 1, moment(second), moment(second))
    return Conversation(CLIENT, SERVER, Flow(1, moment(1), moment(1)), errors=[errors])


def test_what_a_firewall_rejects_is_prohibited_and_not_a_closed_port() -> None:
    rejected = replace(dropped("NETFILTER_DROP"), icmp=(3, 3))
    other_port = replace(dropped("NETFILTER_DROP"), source=replace(CLIENT, port=40001))  # the rate limit
    known = replace(case(rejected), drops=[rejected, other_port], conversations=[refused(1)])
    [finding] = diagnose(known)
    assert (finding.code, finding.server, finding.count) == ("prohibited", SERVER, 6)
    assert "port unreachable (2 of its ports)" in finding.summary


def test_an_error_around_the_drops_says_so_too_where_the_kernel_does_not() -> None:
    [finding] = diagnose(replace(case(dropped("NETFILTER_DROP")), conversations=[refused(2)]))
    assert finding.code == "prohibited"
    later = diagnose(replace(case(dropped("NETFILTER_DROP")), conversations=[refused(9)]))
    assert {one.code for one in later} == {"dropped-by-firewall", "nobody-listens"}


@pytest.mark.parametrize("reason", ["NO_SOCKET", "SOCKET_CLOSE", "QDISC_DROP", "129"])
def test_other_reasons_are_none(reason: str) -> None:
    assert diagnose(case(dropped(reason))) == []
