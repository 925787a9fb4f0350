"""Wrong usage of `udpkit probe`: one clear line, exit 2; and how it ends otherwise."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from cli.command import TIMEOUT, UDPKIT, environment, udpkit

from .conftest import NEAR, echo, quiet, serving, unlimited
from .conftest import Path as Way

WRONG = [
    # ports
    ("127.0.0.1 0", "port 0 is not between 1 and 65535"),
    ("127.0.0.1 70000", "port 70000 is not between 1 and 65535"),
    ("127.0.0.1 99999999999999999999", "port 99999999999999999999 is not between 1 and 65535"),
    ("127.0.0.1 1-70000", "port 70000 is not between 1 and 65535"),
    ("127.0.0.1 0-9", "port 0 is not between 1 and 65535"),
    ("127.0.0.1 9-7", "the range 9-7 runs backwards"),
    ("127.0.0.1 -5", "No such option '-5'; see udpkit probe --help"),
    ("127.0.0.1 5-", "“5-” is neither a port nor a UDP service's name"),
    ("127.0.0.1 9,,7", "there is an empty port in “9,,7”"),
    ("127.0.0.1 ,", "there is an empty port in “,”"),
    ("127.0.0.1 nosuchservice", "“nosuchservice” is neither a port nor a UDP service's name"),
    ("127.0.0.1 ٣", "“٣” is neither a port nor a UDP service's name"),
    ("127.0.0.1 1e3", "“1e3” is neither a port nor a UDP service's name"),
    ("127.0.0.1 @{none}", "{none}: No such file or directory"),
    ("127.0.0.1 @{dir}", "{dir}: Is a directory"),
    ("127.0.0.1 @{empty}", "{empty}: there is no port in it"),
    ("127.0.0.1 @{binary}", "{binary}: not a text file"),
    ("127.0.0.1 @{endless}", "{endless}: longer than 4 MiB"),
    # hosts
    ("", "Missing argument 'HOST'; see udpkit probe --help"),
    (", 9", "there is an empty host in “,”"),
    ("127.0.0.1,,::1 9", "there is an empty host in “127.0.0.1,,::1”"),
    ("@{none} 9", "{none}: No such file or directory"),
    ("@{empty} 9", "{empty}: there is no host in it"),
    ("-4 ::1 9", "::1 has no IPv4 address"),
    ("-6 127.0.0.1 9", "127.0.0.1 has no IPv6 address"),
    ("-6 127.0.0.0/30 9", "127.0.0.0/30 is not an IPv6 network"),
    ("127.0.0.0/8 9", "127.0.0.0/8 has more than 65,536 addresses: probe fewer at a time"),
    ("::/0 9", "::/0 has more than 65,536 addresses: probe fewer at a time"),
    ("127.1.0.0/16,127.2.0.0/16 9", "more than 65,536 addresses: probe fewer at a time"),
    ("127.0.0.0/33 9", "“127.0.0.0/33” is not a network: 192.0.2.0/24"),
    ("127.0.0.x/24 9", "“127.0.0.x/24” is not a network: 192.0.2.0/24"),
    ("0.0.0.0 9", "0.0.0.0 is no host's address: use 127.0.0.1 or ::1 for this host"),
    (":: 9", ":: is no host's address: use 127.0.0.1 or ::1 for this host"),
    ("224.0.0.1 9", "224.0.0.1 is no host's address: udpkit nc -b sends to groups and broadcasts"),
    ("ff02::1 9", "ff02::1 is no host's address: udpkit nc -b sends to groups and broadcasts"),
    (
        "255.255.255.255 9",
        "255.255.255.255 is no host's address: udpkit nc -b sends to groups and broadcasts",
    ),
    ("fe80::1 9", "fe80::1 is link-local: add its interface, fe80::1%eth0"),
    # payloads
    ("127.0.0.1 9 --as nope", "there is no protocol called nope: udpkit probe --list shows them"),
    ("127.0.0.1 --as nope", "there is no protocol called nope: udpkit probe --list shows them"),
    ("127.0.0.1 9 --as ntp:x", "--as ntp:x: ntp takes no argument"),
    ("127.0.0.1 9 --payload xy", "--payload takes pairs of hexadecimal digits, or @FILE"),
    ("127.0.0.1 9 --payload 0", "--payload takes pairs of hexadecimal digits, or @FILE"),
    ("127.0.0.1 9 --payload @{none}", "{none}: No such file or directory"),
    (
        "127.0.0.1 9 --payload @{endless}",
        "--payload: more than 65,507 bytes do not fit into a datagram",
    ),
    (
        "127.0.0.1 9 --payload 00 --as dns",
        "--as and --payload exclude each other; see udpkit probe --help",
    ),
    # numbers
    *(
        (
            f"127.0.0.1 9 --timeout {value}",
            "Invalid value for --timeout: takes a number above 0, up to 3,600; see udpkit probe --help",
        )
        for value in ("-1", "0", "nan", "inf", "4000")
    ),
    *(
        (
            f"127.0.0.1 9 --rate {value}",
            "Invalid value for --rate: takes a number above 0, up to 1,000,000; see udpkit probe --help",
        )
        for value in ("-1", "0", "nan", "inf")
    ),
    *(
        (
            f"127.0.0.1 9 --retries {value}",
            f"Invalid value for '--retries': {value} is not in the range 0<=x<=100; see udpkit probe --help",
        )
        for value in ("-1", "1000000000")
    ),
    (
        "127.0.0.1 9 --timeout soon",
        "Invalid value for '--timeout': 'soon' is not a valid float; see udpkit probe --help",
    ),
    # where from
    ("127.0.0.1 9 --source 192.0.2.99", "--source 192.0.2.99: Cannot assign requested address"),
    (
        "127.0.0.1 9 --source nowhere",
        "Invalid value for --source: takes an address of this host; see udpkit probe --help",
    ),
    ("127.0.0.1 9 --source ::1", "127.0.0.1 has no IPv6 address"),
    ("-6 ::1 9 --source 127.0.0.1", "--source 127.0.0.1 is not an IPv6 address; see udpkit probe --help"),
    ("127.0.0.1 9 --interface nosuch0", "--interface nosuch0: No such device"),
    (f"127.0.0.1 9 --interface {'x' * 40}", f"--interface {'x' * 40}: No such device"),
    ("fe80::1 9 --interface nosuch0", "--interface nosuch0: No such device"),
    # what excludes what
    ("127.0.0.1 9 --nonsense", "No such option '--nonsense'; see udpkit probe --help"),
    ("127.0.0.1 9 --trace --every 1s", "--trace and --every exclude each other; see udpkit probe --help"),
    ("127.0.0.1 9 --count 3", "--count and --prometheus need --every; see udpkit probe --help"),
]
"""Arguments, and what is said. `{none}`, `{dir}`, … are files of the fixture `files`."""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Files of all kinds that are no list of hosts or ports."""
    (tmp_path / "empty").write_text("# nobody\n\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    (tmp_path / "endless").write_text("9\n" * (3 << 20))
    return {name: str(tmp_path / name) for name in ("none", "empty", "binary", "endless")} | {
        "dir": str(tmp_path)
    }


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=[case[0] or "nothing" for case in WRONG])
def test_wrong_usage_is_one_line_and_exit_2(files: dict[str, str], arguments: str, sentence: str) -> None:
    run = udpkit("probe", *arguments.format_map(files).split())
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"udpkit: {sentence.format_map(files)}\n"


@pytest.mark.parametrize("json_too", [[], ["--json"]], ids=["text", "JSON"])
def test_a_name_that_does_not_exist(json_too: list[str]) -> None:
    """Whether a name server says so or cannot be asked; what it says is escaped."""
    run = udpkit("probe", "no\x1bsuch\x1b.invalid", "9", *json_too)
    assert (run.returncode, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1
    assert "\x1b" not in run.stderr
    assert "such" in run.stderr


def test_the_document_is_that_of_the_design() -> None:
    run = udpkit("probe", "127.0.0.1", "9", "--json")
    document = json.loads(run.stdout)
    assert (document["schema"], list(document)) == (1, ["schema", "results"])
    [result] = document["results"]
    assert list(result) == [
        "host",
        "address",
        "port",
        "state",
        "reply_from",
        "answer",
        "rtt_ms",
        "icmp",
        "icmp_proven",
        "sent",
        "evidence",
    ]
    assert (result["host"], result["address"], result["port"]) == ("127.0.0.1", "127.0.0.1", 9)
    assert result["icmp"] == {
        "kind": "port unreachable", "origin": "icmp", "type": 3, "code": 3, "from": "127.0.0.1",
    }  # fmt: skip
    assert result["rtt_ms"] > 0
    assert (result["state"], result["sent"], run.returncode, run.stderr) == ("closed", 1, 1, "")


def test_the_text_has_ports_with_the_same_verdict_together(near: Way) -> None:
    unlimited(near.server)
    with serving(near.server, {7005: quiet}, NEAR[4]):
        run = near.client.run(UDPKIT, "probe", NEAR[4], "7000-7008", "--timeout", "0.3", "--retries", "1")
        assert run.wait(TIMEOUT) == 3
    assert run.errors == b""
    first, *lines = run.output.decode().splitlines()
    assert first == NEAR[4]
    assert [line.split()[:2] for line in lines] == [["7000-7004,7006-7008", "closed"], ["7005", "silent"]]
    assert "8 ports: ICMP port unreachable, said by the host itself" in lines[0]


def test_ctrl_c_prints_what_is_known_and_exits_130(near: Way) -> None:
    """7000 answers; 7001 is asked again and again, until we know that the answer has been heard."""
    asked_thrice = threading.Event()
    asked: list[bytes] = []

    def count(_sock: socket.socket, data: bytes, _peer: object) -> None:
        asked.append(data)
        if len(asked) == 3:
            asked_thrice.set()

    with serving(near.server, {7000: echo, 7001: count}, NEAR[4]):
        running = near.client.run(UDPKIT, "probe", "--json", NEAR[4], "7000-7001", "--retries", "100")
        assert asked_thrice.wait(TIMEOUT)
        assert running.stop(signal.SIGINT) == 130
    [result] = json.loads(running.output)["results"]
    assert (result["port"], result["state"]) == (7000, "open")
    assert running.errors == b""


@pytest.mark.parametrize("arguments", [["--json"], []], ids=["JSON", "text"])
def test_a_pipe_that_nobody_reads_any_more(arguments: list[str]) -> None:
    """The reader is gone before anything is printed, as with `| head -1` and much output."""
    read, write = os.pipe()
    os.close(read)
    try:
        run = subprocess.run(
            [UDPKIT, "probe", "127.0.0.1,127.0.0.2,127.0.0.3", "1-400", *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=TIMEOUT,
            env=environment(),
        )
    finally:
        os.close(write)
    assert (run.returncode, run.stderr) == (0, "")
