"""Findings from the JSON of `udpkit read`, `watch` and `check`: anybody may have written it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import msgspec

from udpkit.diagnosis import RULES, Finding
from udpkit.facts import Address, Endpoint, Network
from udpkit.facts.text import in_one_line

LARGEST = 64 << 20
"""Bytes of JSON that are read."""
MOST = 100_000
"""Findings that are read."""
ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.%\w-]{2,64})\]|([0-9.]{7,15})):([0-9]{1,5})", re.ASCII)
SCOPE = re.compile(r"[A-Za-z0-9][\w.-]{0,14}", re.ASCII)
"""Of interface names only what no shell takes for something else."""
SHOWN = 60
"""Characters of a wrong value that are shown."""


class BadFinding(Exception):
    """What is no finding, or lacks what is needed of one."""


class Elsewhere(BadFinding):
    """It is about another host."""


class _Finding(msgspec.Struct):
    code: str
    client: str | None = None
    server: str | None = None
    actual: str | None = None
    process: str | None = None
    summary: str = ""


class _Document(msgspec.Struct):
    findings: list[msgspec.Raw]


def findings_of(data_untrusted: bytes) -> list[Finding]:
    """The findings of a document, of one in every line, or of a finding alone. Raises BadFinding."""
    if len(data_untrusted) > LARGEST:
        raise BadFinding(f"more than {LARGEST >> 20} MB of JSON")
    found: list[Finding] = []
    for number, raw in enumerate(_raw_findings(data_untrusted), 1):
        if number > MOST:
            raise BadFinding(f"more than {MOST} findings")
        try:
            found.append(_finding(msgspec.json.decode(raw, type=_Finding)))
        except (msgspec.MsgspecError, RecursionError, BadFinding) as error:
            raise BadFinding(f"finding {number}: {error}") from error
    return found


def _raw_findings(data: bytes) -> Iterator[msgspec.Raw | bytes]:
    try:
        documents: Sequence[bytes] = [data]
        try:
            msgspec.json.decode(data)
        except msgspec.DecodeError:  # a document a line, as `watch` writes them
            documents = [line for line in data.splitlines() if line.strip()]
            if len(documents) < 2:
                raise
        for one in documents:
            if "findings" in msgspec.json.decode(one, type=dict[str, Any]):
                yield from msgspec.json.decode(one, type=_Document).findings
            else:
                yield one
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadFinding(f"this is no JSON of udpkit read, watch or check: {error}") from error


def _finding(told: _Finding) -> Finding:
    if told.code not in RULES:
        raise BadFinding(f"there is no finding {_shown(told.code)}")
    return new_finding(told.code, told.server, told.client, told.actual, told.process, told.summary)


def new_finding(
    code: str,
    server: str | None,
    client: str | None,
    actual: str | None,
    process: str | None = None,
    summary: str = "",
) -> Finding:
    """A finding with these ends, as the JSON or a person writes them. Raises BadFinding."""
    finding = Finding(
        code=code,
        severity="error",
        summary=summary,
        client=_client(client) if client else None,
        server=endpoint(server) if server else None,
        actual=_end(actual) if actual else None,
        process=process,
        count=1,
        first=None,
        last=None,
        why=[],
        evidence=[],
    )
    ends = [finding.server and finding.server.address, finding.actual and finding.actual.address]
    ends.append(finding.client.address if isinstance(finding.client, Endpoint) else None)
    versions = {end.version for end in ends if end}
    if finding.client and not isinstance(finding.client, Endpoint):
        versions.add(finding.client.version)
    if len(versions) > 1:
        raise BadFinding("it mixes IPv4 and IPv6")
    return finding


def endpoint(text: str) -> Endpoint:
    """`ip:port` or `[ip6]:port`; IPv4 in IPv6 is IPv4. Raises BadFinding."""
    match = ENDPOINT.fullmatch(text)
    if not match or int(match[3]) > 0xFFFF:
        raise BadFinding(f"{_shown(text)} is no address with a port")
    return Endpoint(_address(match[1] or match[2]), int(match[3]))


def _end(text: str) -> Endpoint:
    """The port may be left out."""
    end = _client(text)
    if not isinstance(end, Endpoint):
        raise BadFinding(f"{_shown(text)} is no address")
    return end


def _client(text: str) -> Endpoint | Network:
    """An endpoint, an address alone or a network."""
    if ENDPOINT.fullmatch(text):
        return endpoint(text)
    try:
        network = ip_network(text) if "%" not in text and "/" in text else None
    except ValueError as error:
        raise BadFinding(f"{_shown(text)} is no network") from error
    if network is None:
        return Endpoint(_address(text), 0)
    return network


def _address(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise BadFinding(f"{_shown(text)} is no address") from error
    if isinstance(address, IPv6Address):
        if address.scope_id and not SCOPE.fullmatch(address.scope_id):
            raise BadFinding(f"{_shown(text)} is no address")
        return address.ipv4_mapped or address
    return address


def _shown(text: str) -> str:
    return in_one_line(text[:SHOWN]) + ("…" if len(text) > SHOWN else "")
