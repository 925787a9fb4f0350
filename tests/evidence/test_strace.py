"""Logs of strace: recorded ones, and some that are made here by real programs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from udpkit.evidence import Evidence, read_strace
from udpkit.facts import Source, TracedSocket

LOGS = Path(__file__).parent / "strace"


def read(data: bytes) -> tuple[Source, list[TracedSocket]]:
    return read_strace(Evidence.of("x.strace", data), source=2)


def told(socket: TracedSocket) -> list[tuple[object, ...]]:
    return [
        (one.kind, one.name, one.first.seen.line, str(one.peer or ""), one.pktinfo) for one in socket.calls
    ]


def test_a_log_is_known_by_its_content():
    for path in LOGS.glob("*.strace"):
        assert Evidence.of("-", path.read_bytes()).input.kind == "strace"
    text = b"12:00:00 IP 10.0.0.1.1 > 10.0.0.2.53: UDP, length 3\n"
    assert Evidence.of("-", text).input.kind == "tcpdump"
    assert Evidence.of("-", b"recvfrom sendto\n").input.kind is None


def test_a_socket_and_its_calls():
    source, [socket] = read((LOGS / "dual-stack-kdc.strace").read_bytes())
    assert (source.kind, source.packets, source.datagrams, source.skipped) == ("strace", 7, 2, 5)
    assert (socket.process, socket.descriptor, socket.family) == ("pid 477", 124, 6)
    assert (str(socket.bound), socket.options["IPV6_V6ONLY"], socket.whole) == ("[::]:6088", 0, True)
    assert told(socket)[1:] == [
        ("receive", "recvfrom", 6, "172.17.0.3:38790", False),
        ("send", "sendto", 7, "172.17.0.3:38790", False),
    ]
    assert socket.first.seen.source == 2
    assert socket.first.time_ns is None


def test_a_source_is_known_to_be_chosen_where_an_old_strace_does_not_show_it():
    _, [socket] = read((LOGS / "dnsmasq.strace").read_bytes())
    assert [one[-1] for one in told(socket)[1:]] == [True, True]
    assert socket.options["IP_PKTINFO"] == 1


def test_a_log_that_begins_in_the_middle():
    _, [socket] = read((LOGS / "nc-listen.strace").read_bytes())
    assert (socket.whole, socket.bound, socket.process) == (False, None, "")
    assert [one[0] for one in told(socket)] == ["peek", "connect"]


def test_times_are_of_the_epoch_or_none():
    source, [socket] = read((LOGS / "nc-wildcard-ttt.strace").read_bytes())
    assert source.last_ns is not None
    assert 10**18 < (socket.first.time_ns or 0) <= source.last_ns
    source, [socket] = read((LOGS / "nc-listen-tt.strace").read_bytes())
    assert (source.last_ns, socket.first.time_ns) == (None, None)


def test_a_child_that_is_attached_after_its_clone_is_no_third_thread():
    """strace may tell of a child before fork() returns, or after."""
    socket = "socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3"
    bind = 'bind(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("0.0.0.0")}, 16) = 0'
    clone, attached = "clone(child_stack=NULL, flags=SIGCHLD) = 9", "strace: Process 9 attached"
    ended = "[pid     9] +++ exited with 0 +++"
    peer = '{sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("10.0.0.2")}'
    sent = f'sendto(3, "x", 1, 0, {peer}, 16) = 1'
    for told in ([clone, attached], [attached, clone], [clone]):
        [seen] = read("\n".join([socket, bind, *told, ended, sent]).encode())[1]
        assert [one.kind for one in seen.calls] == ["bind", "send"]


PROGRAM = r"""
import os, socket as s, sys, threading
wild, exact = s.socket(s.AF_INET6, s.SOCK_DGRAM), s.socket(s.AF_INET, s.SOCK_DGRAM)
wild.setsockopt(s.IPPROTO_IPV6, s.IPV6_V6ONLY, 0)
wild.bind(("::", 0))
exact.setsockopt(s.IPPROTO_IP, 8, 1)
exact.bind(("0.0.0.0", 0))
client = s.socket(s.AF_INET, s.SOCK_DGRAM)
def ask(server): client.sendto(b"\x1b(\",{[\\", ("127.0.0.1", server.getsockname()[1]))
def answer():
    ask(wild)
    copy = wild.dup()
    data, peer = copy.recvfrom(100)
    copy.sendto(data, peer)
    client.recvfrom(100)
thread = threading.Thread(target=answer)
thread.start()
thread.join()
ask(exact)
data, control, _, peer = exact.recvmsg(100, 100)
exact.sendmsg([data], control, 0, peer)
client.recvfrom(100)
closed = wild.getsockname()[1]
wild.close()
if child := os.fork():
    os.waitpid(child, 0)
else:
    refused = s.socket(s.AF_INET, s.SOCK_DGRAM)
    refused.connect(("127.0.0.1", closed))
    refused.send(b"x")
    try:
        refused.recv(1)
    except ConnectionRefusedError:
        os._exit(0)
"""

OPTIONS = ["", "-f", "-f -t", "-f -tt -T", "-f -ttt -y", "-f -r -yy", "-f -Y", "-f -X raw", "-f -X verbose"]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("to_file", [True, False], ids=["-o", "stderr"])
def test_every_option_of_strace_tells_the_same(tmp_path, options, to_file):
    log = tmp_path / "log"
    argv = ["strace", *options.split(), *(["-o", str(log)] if to_file else [])]
    ran = subprocess.run(
        [*argv, sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, timeout=60, check=False
    )
    if b"ptrace" in ran.stderr and ran.returncode:
        pytest.skip(ran.stderr.decode(errors="replace"))
    source, sockets = read(log.read_bytes() if to_file else ran.stderr)
    assert not source.damage
    servers = [one for one in sockets if one.bound and one.bound.address.is_unspecified]
    wild, exact = servers
    kinds = [(one.kind, one.name, one.pktinfo) for one in exact.calls]
    assert kinds == [("bind", "bind", None), ("receive", "recvmsg", True), ("send", "sendmsg", True)]
    assert {str(one.local) for one in exact.calls[1:]} == {"127.0.0.1"}
    if not options:
        return  # the thread and the child were not traced
    assert [(one.kind, one.name, one.count) for one in wild.calls] == [
        ("bind", "bind", 1),
        ("receive", "recvfrom", 1),
        ("send", "sendto", 1),
    ]
    [refused] = [one for socket in sockets for one in socket.calls if one.errno == "ECONNREFUSED"]
    assert (refused.name, refused.candidates) == ("recvfrom", 1)
    assert str(refused.peer) == f"127.0.0.1:{wild.bound.port if wild.bound else None}"
