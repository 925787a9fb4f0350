"""What is said of several findings together."""

from __future__ import annotations

import io
from dataclasses import replace

from fixes.build import FOUR
from rich.console import Console

from udpkit.fixes import advise
from udpkit.report.findings import show_offers


def test_advice_is_told_once_and_a_programs_own_once_for_it() -> None:
    text = io.StringIO()
    programs = ["nc", "one", "openvpn", "nc", "other"]
    show_offers(
        Console(file=text, width=100),
        [advise(replace(FOUR, process=name, code="wildcard-without-pktinfo")) for name in programs],
    )
    said = [line.strip() for line in text.getvalue().splitlines()]
    assert [line for line in said if "172.16.13.13" in line and ("bind" in line or "'s " in line)] == [
        "nc's command line: nc -ul 172.16.13.13 5300",
        "bind the server to 172.16.13.13:5300 instead of all addresses",
        "openvpn's configuration: local 172.16.13.13; or multihome",
    ]
