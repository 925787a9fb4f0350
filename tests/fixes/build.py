"""Findings to fit fixes to."""

from __future__ import annotations

from ipaddress import ip_address

from udpkit.diagnosis import Finding
from udpkit.facts import Endpoint


def finding(client: str, server: str, actual: str | None, code: str = "reply-from-other-address") -> Finding:
    """One with these addresses; the server's port is 5300."""
    return Finding(
        code=code,
        severity="error",
        summary="",
        client=Endpoint(ip_address(client), 40000),
        server=Endpoint(ip_address(server), 5300),
        actual=None if actual is None else Endpoint(ip_address(actual), 5300),
        process="server[77]",
        count=1,
        first=None,
        last=None,
        why=[],
        evidence=[],
    )


FOUR = finding("172.17.0.3", "172.16.13.13", "172.17.0.1")
SIX = finding("fd00:17::3", "fd00:16::13", "fd00:17::1")
