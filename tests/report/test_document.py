"""The JSON document, version 1: exactly these fields."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.build import result
from udpkit.facts import Source
from udpkit.report.document import finding_document, lab_document, source_document

FINDING = {
    "code": "reply-from-other-address",
    "severity": "error",
    "summary": "summary text",
    "client": "172.17.0.3:40000",
    "server": "172.16.13.13:5300",
    "actual": "172.17.0.1:5300",
    "process": "text",
    "count": 1,
    "first": "2024-03-09T16:00:00.123456Z",
    "last": None,
    "why": ["why text"],
    "evidence": [{"source": 0, "packet": 1}, {"source": 1, "line": 2}],
    "fixes": [{"id": "bind", "command": "command text", "tradeoff": "tradeoff text", "verified": True}],
}


def test_a_finding_is_written_like_this() -> None:
    assert finding_document(result().findings[0]) == FINDING


def test_an_ipv6_endpoint_stands_in_brackets() -> None:
    document = finding_document(result(client="fd00:17::3", server="fd00:16::13").findings[0])
    assert document["client"] == "[fd00:17::3]:40000"
    assert document["server"] == "[fd00:16::13]:5300"
    assert document["actual"] == "[fd00:17::1]:5300"


def test_what_a_finding_does_not_have_is_null() -> None:
    bare = replace(
        result().findings[0], client=None, server=None, actual=None, process=None, first=None, fixes=[]
    )
    document = finding_document(bare)
    assert [document[key] for key in ("client", "server", "actual", "process", "first", "last")] == [None] * 6
    assert document["fixes"] == []


def test_an_experiment_is_written_like_this() -> None:
    assert lab_document([result()]) == {
        "schema": 1,
        "experiments": [
            {
                "name": "text",
                "result": "fail",
                "reason": "reason text",
                "seconds": 1.235,
                "sources": [
                    {
                        "path": "server.text",
                        "kind": "pcap",
                        "packets": 2,
                        "datagrams": 1,
                        "icmp_errors": 1,
                        "skipped": 0,
                    },
                    {
                        "path": "sockets",
                        "kind": "sockets",
                        "packets": 0,
                        "datagrams": 0,
                        "icmp_errors": 0,
                        "skipped": 0,
                    },
                ],
                "findings": [FINDING],
                "fixes": [
                    {
                        "id": "bind",
                        "connected": "works",
                        "unconnected": None,
                        "nc": "fails",
                        "seen": "connected: seen text; nc: text",
                    }
                ],
            }
        ],
    }


def test_an_experiment_that_was_not_played_has_empty_lists() -> None:
    skipped = result()
    skipped.result, skipped.played, skipped.findings, skipped.proofs = "skip", None, [], []
    [document] = lab_document([skipped])["experiments"]
    assert [document[key] for key in ("result", "sources", "findings", "fixes")] == ["skip", [], [], []]


def test_damage_is_told_where_there_is_some() -> None:
    assert source_document(Source("x", "pcap", damage="cut"))["damage"] == "cut"
    assert "damage" not in source_document(Source("x", "pcap"))


@given(st.integers(0, 2**32 * 10**9))
def test_times_are_rfc_3339_in_utc_and_never_later_than_what_was_measured(nanoseconds: int) -> None:
    text = finding_document(replace(result().findings[0], first=nanoseconds))["first"]
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    microseconds = round((moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds() * 10**6)
    assert microseconds == nanoseconds // 1000


@pytest.mark.parametrize("text", ["\x1b[31m", "ÄÖÜ 你好", '"\\', "\ud800"])
def test_texts_from_outside_come_through_json_as_they_were(text: str) -> None:
    one = result()
    one.findings = [replace(one.findings[0], summary=text)]
    document = json.loads(json.dumps(lab_document([one])))
    assert document["experiments"][0]["findings"][0]["summary"] == text
