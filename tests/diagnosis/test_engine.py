import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit.diagnosis import RULES, diagnose, rules
from udpkit.facts import Case

from .build import SECOND, capture, case, messages, refused, sent, socket, tables

ENDPOINTS = [
    f"{host}:{port}" for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.255") for port in (53, 700, 999)
]
SIX = [f"[fd00::{host}]:{port}" for host in (1, 2, 3) for port in (53, 700, 999)]
WAYS = st.one_of(*(st.tuples(st.sampled_from(pool), st.sampled_from(pool)) for pool in (ENDPOINTS, SIX)))
STEPS = st.builds(lambda make, way: make(*way), st.sampled_from([sent, sent, refused]), WAYS)
SOCKETS = st.builds(
    lambda way, peer, inode: socket(way[0], way[1] if peer else None, inode=inode),
    st.one_of(WAYS, st.just(("0.0.0.0:53", ENDPOINTS[0])), st.just(("[::]:700", SIX[0]))),
    st.booleans(),
    st.sampled_from([None, 7, 8]),
)
MOMENTS = st.tuples(st.sampled_from([None, 0.5, 2.5, 9]), st.lists(SOCKETS, max_size=3))


@given(st.lists(STEPS, max_size=12), st.lists(STEPS, max_size=4), st.lists(MOMENTS, max_size=3))
def test_any_case_is_diagnosed_and_always_in_the_same_way(steps, more, moments):
    seen = capture(*steps), capture(*more, source=9)
    one = case(*seen, tables=tables(*moments))
    found = diagnose(one)
    assert found == diagnose(one)
    assert len({(each.code, each.client, each.server, each.actual) for each in found}) == len(found)
    known = {message.seen for message in messages(*seen)} | {
        entry.seen for table in one.tables for entry in table.entries
    }
    for each in found:
        assert each.code in RULES
        assert set(each.evidence) <= known
        assert each.why
        assert each.evidence


CLIENTS = st.sampled_from(["192.0.2.1:1000", "192.0.2.1:53", "192.0.2.2:1000", "192.0.2.3:999"])
SERVERS = st.sampled_from(["10.0.0.1:53", "10.0.0.1:999", "10.0.0.2:53", "10.0.0.2:999", "10.0.0.255:53"])
WRONG_SOURCE = {
    "reply-from-other-address",
    "reply-from-other-port",
    "listener-locked-to-first-peer",
    "nat-moved-port",
}
ACTS = st.sampled_from(["ask", "answer", "refuse request", "refuse answer"])


@given(st.lists(st.tuples(ACTS, CLIENTS, SERVERS), max_size=16))
def test_where_every_reply_comes_from_an_address_that_was_asked_no_wrong_source_is_found(acts):
    steps, asked = [], set()
    for act, client, server in acts:
        if act == "ask":
            asked.add((client, server))
        if (client, server) in asked:
            make = refused if act.startswith("refuse") else sent
            ends = (server, client) if act.endswith("answer") else (client, server)
            steps.append(make(*ends))
    assert not {one.code for one in diagnose(case(*steps))} & WRONG_SOURCE


def test_nothing_seen_is_nothing_found():
    assert diagnose(Case([])) == []


def test_findings_come_in_the_order_of_their_evidence():
    late = [sent("10.0.0.9:2000", "10.0.0.1:999"), sent("10.0.0.2:999", "10.0.0.9:2000")]
    early = [sent("10.0.0.8:2000", "10.0.0.1:999"), sent("10.0.0.2:999", "10.0.0.8:2000")]
    found = diagnose(case(capture(sent("10.0.0.7:1", "10.0.0.6:1"), *late), capture(*early, source=1)))
    assert [str(each.client) for each in found] == ["10.0.0.8:2000", "10.0.0.9:2000"]


def wrong_source(port: int, client: str = "10.0.0.9") -> list:
    return [
        sent(f"{client}:{port}", "10.0.0.1:999"),
        sent("10.0.0.2:999", f"{client}:{port}"),
        refused("10.0.0.2:999", f"{client}:{port}"),
    ]


def test_what_is_alike_in_all_but_the_clients_port_is_one_finding():
    [found] = diagnose(case(*wrong_source(2000), *wrong_source(2001), *wrong_source(2002)))
    assert found.summary.endswith(", and 10.0.0.9 refused it (3 of its ports).")
    assert str(found.client) == "10.0.0.9:2000"
    assert found.count == 3
    assert (found.first, found.last) == (2 * SECOND, 8 * SECOND)
    assert [seen.packet for seen in found.evidence] == list(range(1, 10))


def test_evidence_is_bounded():
    [found] = diagnose(case(*(step for port in range(2000, 2050) for step in wrong_source(port))))
    assert (found.count, len(found.evidence)) == (50, 20)


def test_other_clients_and_other_severities_are_other_findings():
    steps = [*wrong_source(2000), *wrong_source(2001)[:2], *wrong_source(2000, client="10.0.0.8")]
    assert [one.summary.count("of its ports") for one in diagnose(case(*steps))] == [0, 0, 0]


def test_a_packet_is_named_with_its_capture_where_there_are_several():
    [alone] = diagnose(case(capture(*wrong_source(2000))))
    assert "(packet 3)" in alone.why[2]
    [found] = diagnose(
        case(capture(*wrong_source(2000)), capture(sent("10.0.0.7:1", "10.0.0.6:1"), source=1))
    )
    assert "(packet 3 of 0.pcap)" in found.why[2]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rules_file_is_its_code_and_its_docstring_the_manual_page(rule):
    module = importlib.import_module(rule.find.__module__)
    assert rule.code == module.CODE == Path(module.__file__).stem.replace("_", "-")
    first, blank, *_ = rule.manual.splitlines()
    assert first[0].isupper()
    assert first.endswith(".")
    assert blank == ""
    for heading in ("What it sees", "Why it happens", "Example"):
        assert f"\n## {heading}\n" in rule.manual
    assert "\nSilent" in rule.manual


def test_every_file_of_the_folder_is_a_rule():
    files = {path.stem.replace("_", "-") for path in Path(rules.__path__[0]).glob("[!_]*.py")}
    assert set(RULES) == files
