"""What people paste when they ask for help, and what `udpkit read` makes of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .command import TIMEOUT, UDPKIT, udpkit

PASTED = Path(__file__).parents[1] / "evidence" / "pasted"

LOCKED, OTHER_ADDRESS = "listener-locked-to-first-peer", "reply-from-other-address"

EXPECTED: dict[str, list[tuple[str, str, str, str | None, set[int]]]] = {
    "docker0-nc.txt": [
        (OTHER_ADDRESS, "172.17.0.3:38908", "172.16.13.13:56789", "172.17.0.1:56789", {1, 2, 3}),
        (LOCKED, "172.17.0.3:38908", "172.16.13.13:56789", "172.17.0.1:56789", {1, 2, 5}),
    ],
    "docker0-nc-named-port.txt": [
        (OTHER_ADDRESS, "172.17.0.2:44182", "192.168.106.242:5678", "172.17.0.1:5678", {3, 6, 7}),
    ],
    "icmp-unreachable.txt": [("nobody-listens", "172.16.0.62:0", "172.16.0.46:8888", None, {3, 6})],
    "netstat-before-after.txt": [(LOCKED, "172.17.0.2:45609", "0.0.0.0:56789", "172.17.0.1:56789", {1, 2})],
    "dnsmasq.strace": [],
    "dual-stack-kdc.strace": [("wildcard-without-pktinfo", "172.17.0.3:38790", "[::]:6088", None, {4, 6, 7})],
    "nc-listen.strace": [(LOCKED, "172.17.0.2:57190", "", None, {1, 2})],
    "ncat-probe.strace": [],
}
"""(code, client, server, actual, lines among the evidence) of each file's findings, notes aside."""


def told(*files: Path | str) -> dict[str, Any]:
    ended = udpkit("read", "--json", *map(str, files))
    document: dict[str, Any] = json.loads(ended.stdout)
    document["code"] = ended.returncode
    return document


@pytest.mark.parametrize("name", EXPECTED)
def test_what_people_paste(name: str) -> None:
    document = told(PASTED / name)
    findings = [one for one in document["findings"] if one["severity"] != "note"]
    assert document["code"] == bool(EXPECTED[name])
    findings.sort(key=lambda one: one["code"])
    expected = sorted(EXPECTED[name])
    assert [(one["code"], one["client"], one["actual"]) for one in findings] == [
        (code, client, actual) for code, client, _, actual, _ in expected
    ]
    for finding, (_, _, server, _, lines) in zip(findings, expected, strict=True):
        assert finding["server"] == (server or finding["server"])
        assert {one["line"] for one in finding["evidence"]} >= lines


def test_all_of_it_together_says_the_same() -> None:
    document = told(*(PASTED / name for name in EXPECTED))
    findings = {
        (one["code"], one["client"], one["actual"])
        for one in document["findings"]
        if one["severity"] != "note"
    }
    assert findings == {
        (code, client, actual) for expected in EXPECTED.values() for code, client, _, actual, _ in expected
    }
    assert [one["kind"] for one in document["sources"]] == [
        *["tcpdump"] * 3,
        "sockets",
        *["strace"] * 4,
    ]


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    chatter = tmp_path / "chatter"
    chatter.write_text("no evidence\n")
    ended = udpkit("read", chatter, tmp_path / "gone", tmp_path, "/dev/null", PASTED / "docker0-nc.txt")
    assert ended.returncode == 2
    assert "listener-locked-to-first-peer" in ended.stdout
    kinds = "neither a capture, nor text of tcpdump, strace, ss, netstat, lsof or /proc/net/udp"
    assert ended.stderr.splitlines() == [
        f"udpkit: {chatter}: {kinds}",
        f"udpkit: {tmp_path}/gone: No such file or directory",
        f"udpkit: {tmp_path}: Is a directory",
        "udpkit: /dev/null: empty",
    ]
    alone = udpkit("read", chatter)
    assert (alone.returncode, alone.stdout, alone.stderr) == (2, "", f"udpkit: {chatter}: {kinds}\n")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("d4c3b2a102000400", "not a capture: 8 bytes, less than a file header"),
        ("a1b2c3d400090001" + "00" * 16, "pcap version 9.1 is not supported"),
    ],
)
def test_a_capture_with_a_bad_header_fails_alone(tmp_path: Path, header: str, reason: str) -> None:
    bad = tmp_path / "bad.pcap"
    bad.write_bytes(bytes.fromhex(header))
    ended = udpkit("read", bad, PASTED / "docker0-nc.txt")
    assert (ended.returncode, ended.stderr) == (2, f"udpkit: {bad}: {reason}\n")
    assert LOCKED in ended.stdout


def test_standard_input_is_read_once_and_may_be_closed() -> None:
    with (PASTED / "docker0-nc.txt").open() as file:
        ended = subprocess.run(
            [UDPKIT, "read", "-"], stdin=file, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    assert ended.returncode == 1
    assert "seen in lines 1, 2, 3" in ended.stdout
    twice = udpkit("read", "-", "-")
    assert (twice.returncode, twice.stderr) == (2, "udpkit: - can be given once; see udpkit read --help\n")
    closed = subprocess.run(
        ["sh", "-c", f"{UDPKIT} read - <&-"], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert (closed.returncode, closed.stdout) == (2, "")
    assert closed.stderr.startswith("udpkit: standard input: ")


def test_of_very_many_findings_the_terminal_shows_a_hundred(tmp_path: Path) -> None:
    text = tmp_path / "refused.txt"
    lines = []
    for number in range(150):
        client, server = f"10.0.0.{number + 1}", f"10.0.1.{number + 1}"
        lines += [
            f"12:00:00.{number:06} IP {client}.40000 > {server}.5000: UDP, length 5",
            f"12:00:01.{number:06} IP {server} > {client}: ICMP {server} udp port 5000 unreachable",
        ]
    text.write_text("\n".join(lines))
    shown = udpkit("read", text).stdout
    assert shown.count("error nobody-listens") == 100
    assert "and 50 more: --json has them all" in shown
    assert len(told(text)["findings"]) == 150


def test_a_capture_and_the_servers_calls_are_one_answer(tmp_path: Path) -> None:
    text = tmp_path / "tcpdump.txt"
    text.write_text(
        "12:00:00.1 IP 172.17.0.3.38790 > 172.16.13.13.6088: UDP, length 5\n"
        "12:00:00.2 IP 172.17.0.1.6088 > 172.17.0.3.38790: UDP, length 5\n"
        "12:00:00.3 IP 172.17.0.3 > 172.17.0.1: ICMP 172.17.0.3 udp port 38790 unreachable, length 41\n"
    )
    [finding] = told(text, PASTED / "dual-stack-kdc.strace")["findings"]
    assert (finding["code"], finding["process"]) == (OTHER_ADDRESS, "pid 477")
    assert {(one["source"], one["line"]) for one in finding["evidence"]} == {
        (source, line) for source, lines in ((0, (1, 2, 3)), (1, (4, 6, 7))) for line in lines
    }
    assert "sendto() (line 7 of" in finding["why"][2]
    assert finding["why"][2].endswith("172.17.0.3 prefers: 172.17.0.1.")
