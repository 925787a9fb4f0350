"""`udpkit watch`, on lab hosts with real programs."""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from privileges import is_real_root

from cli.command import TIMEOUT, UDPKIT, on_terminals, udpkit
from cli.watching import Watch, captures, watch
from udpkit import _native
from udpkit.diagnosis import diagnose
from udpkit.facts import Case, Source
from udpkit.lab import Host, Lab, wait_until

root = pytest.mark.skipif(not is_real_root(), reason="watching another namespace takes real root")


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """A server with docker0 172.17.0.1 and eth0 172.16.13.13, and a client behind docker0."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        server.bridge("docker0", "172.17.0.1/16")
        lab.link(client, "eth0", server, "docker0")
        lab.plug(server, "eth0")
        server.address("eth0", "172.16.13.13/24")
        client.address("eth0", "172.17.0.3/16")
        client.ip("route add default via 172.17.0.1")
        yield server, client


def tell_the_story(server: Host, client: Host, watch: Watch) -> None:
    listener = server.run("nc", "-ul", "56789")
    server.wait_for_port(56789, listener)
    inode = server.udp_sockets().entries[0].inode
    assert inode
    # It has been there for a look or two of the watcher's before anything happens to it.
    time.sleep(0.8)
    asking = client.run("nc", "-u", "172.16.13.13", "56789")
    asking.type(b"hello\n")
    wait_until(lambda: b"hello" in listener.output, [listener], timeout=5, what="nc heard nothing")
    listener.type(b"answer\n")
    watch.until(lambda codes: "reply-from-other-address" in codes)
    asking.type(b"again\n")


@root
def test_the_story_live_has_the_findings_of_its_capture_and_the_process(
    hosts: tuple[Host, Host], tmp_path: Path, tcpdump: Callable[[Path], list[str]]
) -> None:
    server, client = hosts
    file = tmp_path / "kept.pcap"
    capture = server.capture("docker0")
    with watch(server, "--write", file) as running:
        tell_the_story(server, client, running)
        running.until(lambda codes: "listener-locked-to-first-peer" in codes)
        code, errors = running.end()
    assert code == 130
    assert "no packet lost" in errors
    tallies, conversations, _ = _native.read([_native.Input(capture.pcap())])
    sources = [Source("docker0", "pcap", packets=tally.packets, last_ns=tally.last_ns) for tally in tallies]
    read = diagnose(Case(sources, conversations=conversations))
    assert {finding.code for finding in read} <= {finding["code"] for finding in running.findings}
    # Told when the first reply was refused, before the second request was.
    assert {finding["code"] for finding in running.findings} - {finding.code for finding in read} <= {
        "reply-from-other-address"
    }
    assert {finding["process"] for finding in running.findings} == {"nc"}
    assert {finding["server"] for finding in running.findings} == {"172.16.13.13:56789"}
    lines = tcpdump(file)
    # From before the finding was known; twice, since the bridge and its port were watched.
    assert sum("172.16.13.13.56789: UDP, length 6" in line for line in lines) == 4, lines
    assert any("udp port 56789 unreachable" in line for line in lines), lines


def drops_are_told() -> str | None:
    return _native.Live([], snapshot=64, memory=1 << 20, namespace=0).without_drops


@root
def test_each_reason_of_the_kernel_is_a_finding() -> None:
    if reason := drops_are_told():
        pytest.skip(f"the kernel does not tell here: {reason}")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        for link, net in (("eth0", "192.0.2"), ("eth1", "198.51.100")):
            lab.link(server, link, client, link)
            server.address(link, f"{net}.1/24")
            client.address(link, f"{net}.2/24")
        server.sysctl("net.ipv4.conf.all.rp_filter", 1)
        client.sysctl("net.ipv4.conf.all.arp_announce", 2)  # else the filter takes offence at the ARP request
        try:
            server.shell("iptables -A INPUT -p udp --dport 5001 -j DROP")
            server.shell("iptables -A INPUT -p udp --dport 5004 -j REJECT")
        except Exception as error:
            pytest.skip(f"no firewall here: {error}")
        with (
            server.socket(socket.AF_INET, socket.SOCK_DGRAM) as slow,
            client.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
            client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw,
            watch(server) as running,
        ):
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            slow.bind(("192.0.2.1", 5003))
            asking.bind(("192.0.2.2", 4000))
            asking.sendto(b"firewall", ("192.0.2.1", 5001))
            asking.sendto(b"rejected", ("192.0.2.1", 5004))
            asking.sendto(b"refused", ("192.0.2.1", 5005))
            asking.sendto(b"by the other interface", ("198.51.100.1", 5002))
            for _ in range(100):
                asking.sendto(bytes(1000), ("192.0.2.1", 5003))
            raw.sendto(struct.pack("!4H", 4001, 5003, 12, 1) + b"oops", ("192.0.2.1", 0))
            codes = {
                "dropped-by-firewall": "192.0.2.1:5001",
                "prohibited": "192.0.2.1:5004",
                "nobody-listens": "192.0.2.1:5005",
                "dropped-by-rp-filter": "198.51.100.1:5002",
                "receive-buffer-overflow": "192.0.2.1:5003",
                "bad-checksum": "192.0.2.1:5003",
            }
            running.until(lambda told: told >= codes.keys())
            assert running.end()[0] == 130
    assert len(running.findings) == len(codes), running.findings
    for code, asked in codes.items():
        finding = running.of(code)
        assert (finding["server"], finding["severity"]) == (asked, "error"), finding
        assert finding["client"].startswith("192.0.2.2:")
        assert finding["why"]
    assert running.of("receive-buffer-overflow")["process"] == Path("/proc/self/comm").read_text().strip()


@root
def test_an_answer_that_a_firewall_drops_is_the_clients(hosts: tuple[Host, Host]) -> None:
    if reason := drops_are_told():
        pytest.skip(f"the kernel does not tell here: {reason}")
    server, client = hosts
    server.shell("iptables -A OUTPUT -p udp --sport 7000 -j DROP")
    with (
        server.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering,
        client.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
        watch(server, "--count", "1") as running,
    ):
        answering.bind(("172.17.0.1", 7000))
        asking.sendto(b"?", ("172.17.0.1", 7000))
        _, peer = answering.recvfrom(100)
        with pytest.raises(PermissionError):
            answering.sendto(b"!", peer)
        running.until(lambda codes: codes == {"dropped-by-firewall"})
        assert running.process.wait(TIMEOUT) == 1
    assert running.of("dropped-by-firewall")["server"] == "172.17.0.1:7000"


@root
def test_nothing_is_left_after_a_kill_and_nothing_is_said_of_what_is_well(hosts: tuple[Host, Host]) -> None:
    server, client = hosts
    with watch(server, "--interface", "docker0") as running:
        running.end(signal.SIGKILL)
    wait_until(lambda: not captures(server.read), timeout=5, what="the socket is still there", polling=True)
    listener = server.run("nc", "-ul", "172.16.13.13", "5000")
    server.wait_for_port(5000, listener)
    with watch(server, "-i", "docker0", "--duration", "3s") as running:
        asking = client.run("nc", "-u", "172.16.13.13", "5000")
        asking.type(b"hello\n")
        wait_until(lambda: b"hello" in listener.output, [listener], timeout=5, what="nc heard nothing")
        listener.type(b"answer\n")
        out, errors = running.process.communicate(timeout=TIMEOUT)
    assert (running.process.returncode, out) == (0, ""), errors
    assert "2 datagrams, 0 ICMP errors; 0 findings" in errors


@root
def test_a_terminal_shows_a_table(hosts: tuple[Host, Host]) -> None:
    server, client = hosts
    server.run("nc", "-ul", "172.17.0.1", "5000")
    server.wait_for_port(5000)
    client.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.3; done | nc -u 172.17.0.1 5000")
    code, out, _ = on_terminals("watch", "--netns", server.namespace, "--duration", "1.5")
    assert code == 0
    assert "172.17.0.1:5000" in out
    assert "requests" in out


@root
@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["-i", "nosuch0"], "there is no interface nosuch0", 2),
        (["--duration", "0"], "no time to watch", 2),
        (["--size", "1"], "not a size", 2),
        (["--write", "/nonexistent/file", "--duration", "1"], "/nonexistent/file: No such file", 2),
        (["--pid", "1", "--netns", "x"], "exclude each other", 2),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], words: str, code: int) -> None:
    run = udpkit("watch", *arguments)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (code, "", 1), run.stderr
    assert words in run.stderr


def test_without_privilege_it_says_what_is_missing_and_what_works() -> None:
    assert shutil.which("unshare")
    run = subprocess.run(
        ["unshare", "--user", UDPKIT, "watch"], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert (run.returncode, run.stdout) == (5, "")
    assert "CAP_NET_RAW" in run.stderr
    assert "udpkit read" in run.stderr


@root
def test_privileges_are_given_up(hosts: tuple[Host, Host]) -> None:
    server, _ = hosts
    with watch(server) as running:
        status = Path(f"/proc/{running.process.pid}/status")

        def permitted() -> set[int]:
            masks = set()
            for task in Path(f"/proc/{running.process.pid}/task").iterdir():
                with suppress(OSError):  # a thread that has just ended
                    lines = (task / "status").read_text().splitlines()
                    masks.add(next(line for line in lines if line.startswith("CapPrm")))
            return {int(mask.split()[1], 16) for mask in masks}

        wait_until(
            lambda: permitted() == {1 << 2 | 1 << 19}, timeout=5, what=status.read_text(), polling=True
        )
        assert running.end()[0] == 130
