"""Findings that anybody may have written, and what of them comes near a shell."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixes.build import FOUR, SIX
from udpkit.diagnosis import RULES
from udpkit.facts import Endpoint
from udpkit.fixes import FIXES, values
from udpkit.fixes.servers import ALIASES, SERVERS, hint
from udpkit.fixes.untrusted import BadFinding, findings_of
from udpkit.report.document import finding_document

HARMLESS = re.compile(r"[\w.:%/\[\] -]*", re.ASCII)
texts = st.text() | st.from_regex(r"\A\[?[0-9a-f:.%$;a-z ]{1,30}\]?:[0-9]{1,6}\Z")
hostile = st.fixed_dictionaries(
    {"code": st.sampled_from(sorted(RULES))},
    optional={name: texts | st.none() for name in ("client", "server", "actual", "process")},
)


@pytest.mark.parametrize("finding", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_what_was_written_is_read(finding: object) -> None:
    document = finding_document(FOUR if finding is FOUR else SIX)
    alone, several = json.dumps(document), json.dumps({"schema": 1, "findings": [document]})
    for text, count in ((alone, 1), (several, 1), (f"{several}\n{several}\n", 2)):
        found = findings_of(text.encode())
        assert len(found) == count
        assert all(finding_document(one) == {**document, "summary": ""} for one in found)


@given(st.binary())
def test_bytes_are_findings_or_are_refused(data: bytes) -> None:
    with pytest.raises(BadFinding):
        findings_of(data)


@given(hostile)
def test_what_is_put_into_a_shell_line_is_harmless(told: dict[str, str | None]) -> None:
    try:
        [finding] = findings_of(json.dumps(told).encode())
    except BadFinding:
        return
    for value in values(finding).values():
        assert HARMLESS.fullmatch(value)


def test_more_than_anybody_needs_is_refused() -> None:
    many = {"findings": [{"code": "no-answer"}] * 100_001}
    with pytest.raises(BadFinding, match="more than 100000"):
        findings_of(json.dumps(many).encode())


def test_ipv4_in_ipv6_is_ipv4() -> None:
    [finding] = findings_of(b'{"code": "no-answer", "server": "[::ffff:192.0.2.1]:53"}')
    assert str(finding.server) == "192.0.2.1:53"


@pytest.mark.parametrize("name", [*SERVERS, *ALIASES])
def test_every_hint_names_the_address(name: str) -> None:
    for finding in (FOUR, SIX):
        said = hint(replace(finding, process=f"{name}[7]"))
        assert said is not None
        assert isinstance(finding.server, Endpoint)
        assert str(finding.server.address) in said
        assert not re.search(r"\{\w+\}", said)


def test_the_table_has_what_processes_are_called() -> None:
    assert set(ALIASES.values()) <= SERVERS.keys()
    assert all(len(name) <= 15 for name in SERVERS if name not in ALIASES.values())
    assert hint(replace(FOUR, process=None)) is None


@pytest.mark.parametrize(
    "network", ["172.17.0.0/16", "192.0.2.0/31", "192.0.2.1/32", "0.0.0.0/0", "fd00::/64"]
)
def test_some_client_stands_for_a_network(network: str) -> None:
    [finding] = findings_of(json.dumps({"code": "no-answer", "client": network}).encode())
    first = values(finding)["peer"]
    own = {type(finding.client[0])(first)} if finding.client else set()  # type: ignore[index]
    assert network in {"0.0.0.0/0", "192.0.2.1/32"} or values(finding, own).get("peer", "") != first


def test_only_fixes_that_were_tried_or_have_checks_can_be_applied() -> None:
    for fix in FIXES.values():
        assert fix.folklore or len(fix.checks) == len(fix.commands)
