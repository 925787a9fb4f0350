"""`udpkit test`: real servers on a lab host with several addresses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.command import TIMEOUT, UDPKIT, environment, on_terminals, udpkit
from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab import wait_until
from udpkit.lab.keeper import can_make_hosts

FOUR = ["192.0.2.1", "192.0.2.9", "198.51.100.1", "172.17.0.1", "203.0.113.1"]
SIX = [
    *("2001:db8::1", "2001:db8::9", "fd00:db8::1", "fe80::1"),
    *("2001:db8:1::1", "fd00:17::1", "2001:db8:ff::1"),
]
PREFERRED = "192.0.2.1"
ECHO = """
import socket, sys
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 5000))
print("{say}", flush=True)
while True:
    data, peer = sock.recvfrom(65535)
    {do}
"""
ANSWER = "sock.sendto(data, peer)"


def python(do: str, *arguments: str, say: str = "ready") -> list[str]:
    """A server of a few lines."""
    return [sys.executable, "-I", "-c", ECHO.format(do=do, say=say), *arguments]


class Outcome:
    def __init__(self, run: subprocess.CompletedProcess[str]) -> None:
        assert "Traceback" not in run.stderr
        assert run.stdout, run.stderr
        self.status = run.returncode
        self.document: dict[str, Any] = json.loads(run.stdout)
        [port] = self.document["ports"]
        self.requests: list[dict[str, Any]] = port["requests"]

    def outcomes(self, addresses: Sequence[str]) -> dict[str, set[str]]:
        """By address, of both kinds of client."""
        found: dict[str, set[str]] = {address: set() for address in addresses}
        for one in self.requests:
            address = one["asked"].rpartition(":")[0].strip("[]")
            if address in found:
                found[address].add(one["outcome"])
        return found


def outcome_of(*arguments: str) -> Outcome:
    return Outcome(udpkit("test", "--json", *arguments))


def needs(program: str) -> None:
    if shutil.which(program, path=SEARCH_PATH) is None:
        pytest.skip(f"{program} is not installed")


def all_are(outcome: str, addresses: Sequence[str]) -> dict[str, set[str]]:
    return {address: {outcome} for address in addresses}


def test_a_plain_dual_stack_server_is_wrong_where_the_route_prefers_another_source() -> None:
    needs("strace")
    one = outcome_of("--", *python(ANSWER, "::"))
    assert one.status == 1
    assert one.outcomes(FOUR) == {**all_are("wrong", FOUR), PREFERRED: {"right"}}
    wrong = [each for each in one.requests if each["outcome"] == "wrong" and "." in each["asked"]]
    assert {each["reply_from"] for each in wrong} == {f"{PREFERRED}:5000"}
    assert {(each["call"], each["source"]) for each in one.requests} == {
        ("sendto", "the route chose the source")
    }
    assert one.outcomes(["fe80::1", "2001:db8:ff::1"]) == {"fe80::1": {"right"}, "2001:db8:ff::1": {"wrong"}}
    assert [each["id"] for each in one.document["fixes"]] == ["sockets", "attach", "bind"]


def test_dnsmasq_is_right() -> None:
    needs("dnsmasq")
    one = outcome_of(
        "--", "dnsmasq", "--no-daemon", "-u", "root", "-C", "/dev/null", "--no-resolv", "--no-hosts"
    )
    assert (one.status, one.document["verdict"], one.document["fixes"]) == (0, "right", [])
    assert one.outcomes([*FOUR, *SIX]) == all_are("right", [*FOUR, *SIX])
    assert {each["answer"] for each in one.requests} == {"DNS: REFUSED, 0 answers"}


def test_a_server_for_one_peer_is_started_anew_for_each() -> None:
    needs("nc.openbsd")
    one = outcome_of("--type", "hi", "--", "nc.openbsd", "-ul", "5000")
    assert one.status == 1
    assert one.outcomes(FOUR) == {**all_are("wrong", FOUR), PREFERRED: {"right"}}
    assert one.outcomes(SIX) == all_are("absent", SIX)
    assert "3 bytes" in {each["answer"] for each in one.requests}


def test_a_server_that_forks_for_each_peer() -> None:
    needs("socat")
    one = outcome_of("--", "socat", "UDP-LISTEN:5000,fork", "EXEC:cat")
    assert one.status == 1
    assert one.outcomes(FOUR) == {**all_are("wrong", FOUR), PREFERRED: {"right"}}


def test_a_server_that_is_bound_to_one_address_is_right() -> None:
    one = outcome_of("--", *python(ANSWER, "198.51.100.1"))
    assert (one.status, one.document["verdict"]) == (0, "right")
    assert one.outcomes(FOUR) == {**all_are("absent", FOUR), "198.51.100.1": {"right"}}


def test_a_server_that_answers_some_is_not_right() -> None:
    """It takes what comes to every address."""
    one = outcome_of("--", *python("peer[0].startswith('::ffff:') or sock.sendto(data, peer)", "::"))
    assert one.outcomes(FOUR) == all_are("silent", FOUR)
    assert (one.status, one.document["verdict"]) == (1, "wrong")
    two = outcome_of("--", *python("peer[0].startswith('::ffff:') or sock.sendto(data, peer)", "fd00:db8::1"))
    assert two.status == 0


def test_a_server_that_answers_nothing() -> None:
    one = outcome_of("--timeout", "0.3", "--", *python("pass", "0.0.0.0"))
    assert (one.status, one.document["verdict"]) == (3, "no answer")
    assert one.outcomes(FOUR) == all_are("silent", FOUR)
    assert "--type" in one.document["notes"][0]
    syslog = outcome_of("--timeout", "0.3", "--as", "syslog", "--", *python("pass", "0.0.0.0"))
    assert syslog.document["notes"][0].endswith("never answered: syslog over UDP has no answers (RFC 5426)")


def test_a_server_that_waits_on_loopback() -> None:
    one = outcome_of("--", *python(ANSWER, "127.0.0.1"))
    assert one.status == 3
    assert one.outcomes(FOUR) == all_are("absent", FOUR)
    assert one.document["notes"] == [
        "it waits on 127.0.0.1:5000 only, which no other host can ask",
    ]


def test_a_server_that_dies_of_each_request() -> None:
    one = outcome_of("--", *python("raise SystemExit('it\\x1b[2J hurts')", "0.0.0.0"))
    assert one.status == 3
    assert one.document["notes"][0] == (
        "it ends after a request, with exit status 1: it\\x1b[2J hurts, and was started anew"
    )
    assert sum(each["outcome"] == "untried" for each in one.requests) > 6


@pytest.mark.parametrize("options", [[], ["--no-strace"]])
def test_a_server_that_does_not_start_has_its_last_words_on_one_line(options: list[str]) -> None:
    run = udpkit("test", *options, "--", "sh", "-c", "echo first; printf 'no \\033[2J way\\n\\n' >&2; exit 3")
    assert (run.returncode, run.stdout) == (3, "")
    assert ": exit status 3: no \\x1b[2J way" in run.stderr
    assert ("another one needs root" in run.stderr) is not can_make_hosts()
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(("ends", "how"), [("exit 3", "exit status 3"), ("kill -9 $$", "signal 9")])
def test_a_server_that_does_not_start_is_a_result(ends: str, how: str) -> None:
    run = udpkit("test", "--json", "--", "sh", "-c", f"echo gone >&2; {ends}")
    document = json.loads(run.stdout)
    assert (run.returncode, document["verdict"], document["ports"]) == (3, "no answer", [])
    [why] = document["notes"]
    assert why.endswith(f": {how}: gone" if can_make_hosts() else "needs root")
    assert run.stderr == f"udpkit: {why}\n"


def test_a_payload_of_ones_own_and_several_ports() -> None:
    server = (
        "import select, socket\n"
        "socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]\n"
        "for number, sock in enumerate(socks): sock.bind(('192.0.2.1', 5000 + number))\n"
        "while True:\n"
        "  for sock in select.select(socks, [], [])[0]:\n"
        "    data, peer = sock.recvfrom(99); sock.sendto(data * 2, peer) if data == b'a\\xff' else None"
    )
    run = udpkit("test", "--json", "--payload", "0x61ff", "--", sys.executable, "-c", server)
    document = json.loads(run.stdout)
    assert run.returncode == 0
    assert {port["port"]: port["verdict"] for port in document["ports"]} == {5000: "right", 5001: "right"}
    run = udpkit(
        "test", "--payload", "ab", "--port", "5001", "--timeout", "0.2", "--", sys.executable, "-c", server
    )
    assert run.returncode == 3
    assert "port 5000" not in run.stdout


CLIENT = (
    f'{sys.executable} -c "import socket; '
    "i = socket.getaddrinfo('{address}', {port}, type=socket.SOCK_DGRAM)[0]; "
    "s = socket.socket(*i[:3]); s.settimeout(1); s.sendto(b'x', i[4]); "
    'assert s.recvfrom(9)[1][0] == i[4][0]"'
)


def test_a_program_as_the_client() -> None:
    one = outcome_of("--client", CLIENT, "--", *python(ANSWER, "::"))
    assert one.status == 1
    assert {each["client"] for each in one.requests} == {"client"}
    by_address = one.outcomes([PREFERRED, "192.0.2.9"])
    assert by_address == {PREFERRED: {"right"}, "192.0.2.9": {"wrong"}}
    assert "AssertionError" in str([each["note"] for each in one.requests])
    other_port = "socket.socket(sock.family, sock.type).sendto(data, peer)"  # as TFTP and RTP have it
    hasty = CLIENT.replace("settimeout(1)", "settimeout(0.5)")
    two = outcome_of("--client", hasty, "--", *python(other_port, "0.0.0.0"))
    assert two.outcomes([PREFERRED, "192.0.2.9"]) == by_address
    quiet = outcome_of("--client", "true {address}", "--", *python(ANSWER, "0.0.0.0"))
    assert quiet.outcomes([*FOUR, *SIX]) == all_are("silent", FOUR) | all_are("absent", SIX)


def test_a_program_as_the_client_of_a_server_that_ends_after_each_answer() -> None:
    server = python(f"{ANSWER}; sys.exit()", "0.0.0.0")
    one = outcome_of("--client", CLIENT, "--port", "5000", "--", *server)
    assert one.document["notes"] == ["it ends after a request, and was started anew"]
    others = [address for address in FOUR if address != PREFERRED]
    assert one.outcomes(FOUR) == {PREFERRED: {"right"}, **all_are("wrong", others)}
    assert one.outcomes(SIX) == all_are("absent", SIX)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "SERVER"),
        (["--as", "nonsense", "--", "true"], 2, "no protocol called nonsense"),
        (["--payload", "0xf", "--", "true"], 2, "hexadecimal"),
        (["--client", "dig", "--", "true"], 2, "{address}"),
        (["--client", "dig {address}", "--payload", "x", "--", "true"], 2, "excludes"),
        (["--timeout", "0", "--", "true"], 2, "--timeout"),
        (["--", "no-such-program"], 5, "no-such-program is not installed"),
        (["--client", "no-such-client {address}", "--", "true"], 5, "no-such-client is not installed"),
        (["--", "true"], 3, "ended before it opened a UDP port"),
    ],
)
def test_wrong_usage(arguments: list[str], status: int, says: str) -> None:
    run = udpkit("test", *arguments)
    assert (run.returncode, run.stdout) == (status, "")
    assert says in run.stderr
    assert run.stderr.count("\n") == 1


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    server = python("pass", "0.0.0.0", say="x")
    server[3] = f"import os\nopen({str(pid_file)!r}, 'w').write(os.readlink('/proc/self'))\n{server[3]}"
    process = subprocess.Popen(
        [UDPKIT, "test", "--timeout", "50", "--", *server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(tmp_path)),
    )
    wait_until(
        lambda: pid_file.exists() and pid_file.read_text(), timeout=TIMEOUT, what="no server", polling=True
    )
    started = int(pid_file.read_text())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err.strip()) == (130, "", "")
    assert not os.path.exists(f"/proc/{started}")  # noqa: PTH110
    assert list(tmp_path.iterdir()) == [pid_file]


def test_on_a_page() -> None:
    run = udpkit("test", "--no-strace", "--", *python(ANSWER, "0.0.0.0"))
    assert run.returncode == 1
    row = next(line for line in run.stdout.splitlines() if "192.0.2.9" in line)
    assert row.split() == [
        "secondary",
        "(eth0)",
        "192.0.2.9",
        "192.0.2.1:5000",
        "not",
        "heard",
        "wrong",
        "source",
    ]
    assert "\x1b" not in run.stdout
    assert "sent" not in run.stdout


def test_a_server_with_many_ports_is_asked_at_a_few() -> None:
    many = (
        "import socket, time\nsocks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(6)]\n"
        "for number, sock in enumerate(socks): sock.bind(('127.0.0.1', 5000 + number))\ntime.sleep(99)"
    )
    document = json.loads(udpkit("test", "--json", "--no-strace", "--", sys.executable, "-c", many).stdout)
    assert [port["port"] for port in document["ports"]] == [5000, 5001, 5002, 5003]
    assert document["notes"][0] == "it has 2 more ports, which --port can name"


def test_a_server_that_goes_into_the_background() -> None:
    code = (
        f"import os, sys\nif os.fork():\n    os._exit(0)\nos.setsid()\n{ECHO.format(do=ANSWER, say='ready')}"
    )
    one = outcome_of("--no-strace", "--", sys.executable, "-I", "-c", code, "192.0.2.9")
    assert one.status == 0
    assert one.outcomes(["192.0.2.9"]) == all_are("right", ["192.0.2.9"])


def test_on_a_terminal() -> None:
    status, out, _ = on_terminals("test", "--no-strace", "--", *python(ANSWER, "0.0.0.0"))
    assert status == 1
    assert "\x1b[31mnot heard" in out
