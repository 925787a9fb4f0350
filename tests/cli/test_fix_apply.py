"""`udpkit fix apply`, `verify`, `undo`, `advise` on real hosts: wrong before, right with it, wrong after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixes.cgroup.conftest import alone
from privileges import is_real_root

from cli.command import TIMEOUT, UDPKIT, environment
from udpkit.evidence.programs import SEARCH_PATH
from udpkit.fixes import records
from udpkit.lab import Host, Lab, Program, wait_until

__all__ = ["alone"]

as_root = pytest.mark.skipif(not is_real_root(), reason="entering other namespaces takes real root")
PORT = 5400
ECHO = """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", 5400))
while True:
    server.sendto(*server.recvfrom(99))
"""
ASKED = {"IPv4": ("172.16.13.13", "172.17.0.1"), "IPv6": ("fd16::13", "fd17::1")}
"""What the client asks, and what answers."""


def udpkit(*arguments: str, data: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [UDPKIT, *arguments],
        input=data,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )


@pytest.fixture(autouse=True)
def nothing_is_left(lab: Lab) -> Iterator[None]:
    """No note of a fix outlives its test. Those of other tests, which run beside it, are about other labs."""
    keeper = lab.hosts["server"].namespace.rpartition("/fd/")[0]

    def left() -> list[bytes]:
        notes = [path.read_bytes() for path in records.FOLDER.glob("*.json")] if is_real_root() else []
        return [note for note in notes if f'"{keeper}/'.encode() in note]

    before = left()
    yield
    assert left() == before


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The stage of the story, with a server that leaves its source to the routes."""
    with Lab() as lab:
        server, client = new_host(lab, "server"), new_host(lab, "client")
        # Link-local ones are needed: neighbours are asked for from them where a route has another `src`.
        server.bridge("docker0", "172.17.0.1/16", "fd17::1/64", "fe80::1/64")
        lab.link(client, "eth0", server, "docker0")
        lab.plug(server, "eth0")
        server.address("eth0", "172.16.13.13/24", "fd16::13/64", "fe80::1/64")
        client.address("eth0", "172.17.0.3/16", "fd17::3/64", "fe80::3/64")
        client.ip("route add default via 172.17.0.1")
        client.ip("-6 route add default via fd17::1")
        wait_until(
            lambda: "linkdown" not in server.ip("route") + server.ip("-6 route"),
            timeout=10,
            what="no carrier",
            polling=True,
        )
        yield lab


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Program]:
    program = lab.hosts["server"].run(sys.executable, "-c", ECHO)
    lab.hosts["server"].wait_for_port(PORT, program)
    yield program
    program.stop(signal.SIGKILL)


def new_host(lab: Lab, name: str) -> Host:
    """Without the kernel's own link-local addresses, which would come a second later."""
    host = lab.host(name)
    host.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
    return host


def state(host: Host) -> str:
    """Everything of its own that a fix may touch; counters and comments change by themselves."""
    lines = [
        "ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all",
        "iptables-save | sed '/^#/d; s/\\[.*\\]//'; ip6tables-save | sed '/^#/d; s/\\[.*\\]//'",
        "nft list ruleset 2>/dev/null || :",
        "sysctl -a 2>/dev/null | grep rp_filter || :",
    ]
    return "\n".join(map(host.shell, lines))


def asking(client: Host, address: str) -> socket.socket:
    asks = client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    asks.settimeout(5)
    return asks


def answerer(asks: socket.socket, address: str, port: int = PORT) -> str:
    asks.sendto(b"who?", (address, port))
    who: str = asks.recvfrom(99)[1][0]
    return who


def finding(client: str, server: str, actual: str | None, code: str, **more: Any) -> str:
    return json.dumps({"code": code, "client": client, "server": server, "actual": actual, **more})


@as_root
@pytest.mark.parametrize("family", ASKED)
@pytest.mark.parametrize("name", ["route-src", "snat-notrack-incoming"])
def test_what_check_finds_is_fixed_until_it_is_undone(
    lab: Lab,
    server: Program,  # noqa: ARG001
    name: str,
    family: str,
) -> None:
    """Flows that exist follow at once, as do new ones."""
    host, client = lab.hosts["server"], lab.hosts["client"]
    asked, wrong = ASKED[family]
    where = ["--netns", host.namespace]
    found = udpkit("check", *where, "--json").stdout
    [number] = [
        place
        for place, one in enumerate(json.loads(found)["findings"], 1)
        if (one["server"] or "").strip("[").startswith(asked)
    ]
    this = [name, "--finding", "-", "--number", str(number), *where]
    before = state(host)
    with asking(client, asked) as old:
        assert answerer(old, asked) == wrong
        dry = udpkit("fix", "apply", *this, "--dry-run", data=found)
        assert dry.returncode == 0, dry.stderr
        assert "$(" not in dry.stdout
        assert state(host) == before
        for says in ("applied", "there is nothing to do"):
            done = udpkit("fix", "apply", *this, data=found)
            assert done.returncode == 0, done.stderr
            assert done.stderr.startswith(f"udpkit: {says}")
            assert name != "route-src" or says != "applied" or f" src {asked} " in done.stderr
            assert dry.stdout.startswith(done.stdout)
            with asking(client, asked) as new:
                assert answerer(new, asked) == answerer(old, asked) == asked
        verified = udpkit("fix", "verify", *where, "--json")
        [told] = json.loads(verified.stdout)["fixes"]
        assert (verified.returncode, told["id"], told["in_place"]) == (0, name, True)
        undone = udpkit("fix", "undo", name, *where)
        assert undone.returncode == 0, undone.stderr
        assert state(host) == before
        with asking(client, asked) as new:
            assert answerer(new, asked) == answerer(old, asked) == wrong
    again = udpkit("fix", "undo", name, *where)
    assert (again.returncode, again.stderr) == (1, f"udpkit: {name} is not applied here\n")


@as_root
def test_one_route_has_one_source_at_a_time(lab: Lab) -> None:
    host = lab.hosts["server"]
    host.address("eth0", "172.16.13.14/24")
    before = state(host)
    this = ["--client", "172.17.0.3", "--netns", host.namespace]
    try:
        assert udpkit("fix", "apply", "route-src", "--server", "172.16.13.13:1", *this).returncode == 0
        second = udpkit("fix", "apply", "route-src", "--server", "172.16.13.14:1", *this)
        assert second.returncode == 1
        assert "it is applied already, for 172.17.0.3 → 172.16.13.13:1" in second.stderr
        assert udpkit("fix", "undo", "route-src", *this[2:]).returncode == 0
        assert state(host) == before
    finally:
        host.ip("address del 172.16.13.14/24 dev eth0")


@as_root
def test_one_of_several_is_undone_by_its_name(lab: Lab) -> None:
    host = lab.hosts["server"]
    before, where = state(host), ["--netns", host.namespace]
    for port in ("1", "2"):
        ends = ["--server", f"172.16.13.13:{port}", "--client", "172.17.0.3", "--actual", "172.17.0.1"]
        assert udpkit("fix", "apply", "snat-notrack-incoming", *ends, *where).returncode == 0
    which = udpkit("fix", "undo", "snat-notrack-incoming", *where)
    assert which.returncode == 2
    assert "applied 2 times" in which.stderr
    one = udpkit("fix", "undo", "snat-notrack-incoming", "--server", "172.16.13.13:1", *where)
    assert one.returncode == 0, one.stderr
    assert "--sport 1 " not in host.shell("iptables-save")
    assert "--sport 2 " in host.shell("iptables-save")
    assert udpkit("fix", "undo", "snat-notrack-incoming", "--all", *where).returncode == 0
    assert state(host) == before


@as_root
def test_what_fails_half_way_is_taken_back(lab: Lab) -> None:
    """A table that iptables cannot use lets the second of two commands fail."""
    host = lab.hosts["server"]
    host.shell(
        "nft add table ip raw && nft add chain ip raw PREROUTING '{ type filter hook input priority 7; }'"
    )
    try:
        before = host.shell("nft list ruleset; iptables-save -t nat | sed '/^#/d'")
        ends = ["--server", "172.16.13.13:1", "--client", "172.17.0.3", "--actual", "172.17.0.1"]
        run = udpkit("fix", "apply", "snat-notrack-incoming", *ends, "--netns", host.namespace)
        assert run.returncode == 1, run.stderr
        assert run.stderr.count("\n") == 1
        assert host.shell("nft list ruleset; iptables-save -t nat | sed '/^#/d'") == before
    finally:
        host.shell("nft delete table ip raw")


KILLED = """
import os, sys
from udpkit.cli import main
from udpkit.fixes import applying
real, word = applying.run, sys.argv.pop(1)
def run(line):
    if word in line:
        os.kill(os.getpid(), 9)
    real(line)
applying.run = run
main()
"""
"""udpkit, ended before it runs a line with this word."""


@as_root
def test_what_was_killed_in_the_middle_can_be_undone(lab: Lab) -> None:
    host = lab.hosts["server"]
    before, where = state(host), ["--netns", host.namespace]
    ends = ["--server", "172.16.13.13:1", "--client", "172.17.0.3", "--actual", "172.17.0.1"]
    applying = ["fix", "apply", "snat-notrack-incoming", *ends, *where]
    undoing = ["fix", "undo", "snat-notrack-incoming", *where]
    for arguments, word in ((applying, " raw "), (undoing, " nat ")):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, word, *arguments], timeout=TIMEOUT, check=False
        )
        assert killed.returncode == -9
        assert state(host) != before
        assert udpkit("fix", "verify", *where).returncode == 1
        undone = udpkit(*undoing)
        assert undone.returncode == 0, undone.stderr
        assert state(host) == before
        assert udpkit(*applying).returncode == 0
    assert udpkit(*undoing).returncode == 0


def test_notes_of_an_earlier_boot_are_about_none_of_todays_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's /run may outlive a reboot, after which namespaces are numbered from the beginning."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    namespace = records.namespace_key()
    records.write(
        records.Record(
            fix="route-src",
            namespace=namespace,
            place="",
            once="",
            since=0,
            client="",
            server="",
            steps=[],
            settle=[],
        )
    )
    assert len(records.read(records.namespace_key())) == 1
    monkeypatch.setattr(records, "BOOT", tmp_path / "boot")
    records.BOOT.write_text("another\n")
    assert records.read(records.namespace_key()) == []


@as_root
def test_what_somebody_else_has_changed_stays(lab: Lab) -> None:
    host = lab.hosts["server"]
    where = ["--netns", host.namespace]
    before = state(host)
    old = host.read("/proc/sys/net/ipv4/conf/all/rp_filter")
    host.sysctl("net.ipv4.conf.all.rp_filter", 1)
    assert udpkit("fix", "apply", "rp-filter-loose", *where).returncode == 0
    host.sysctl("net.ipv4.conf.all.rp_filter", 0)
    assert udpkit("fix", "verify", *where).returncode == 1
    undone = udpkit("fix", "undo", "rp-filter-loose", *where)
    assert undone.returncode == 1
    assert "somebody has changed it" in undone.stderr
    assert host.read("/proc/sys/net/ipv4/conf/all/rp_filter") == "0\n"
    assert udpkit("fix", "undo", "rp-filter-loose", "--forget", *where).returncode == 0
    host.sysctl("net.ipv4.conf.all.rp_filter", old.strip())
    assert state(host) == before


@as_root
def test_what_comes_by_another_way_is_taken_with_the_loose_filter() -> None:
    """The client's address is behind eth0, but it asks through eth1."""
    with Lab() as lab:
        server, client = new_host(lab, "server"), new_host(lab, "client")
        for name in ("eth0", "eth1"):
            lab.link(client, name, server, name)
        server.address("eth0", "10.0.0.1/24")
        server.address("eth1", "10.0.1.1/24")
        client.address("eth0", "10.0.0.3/24")
        client.address("eth1", "10.0.1.3/24")
        server.sysctl("net.ipv4.conf.all.rp_filter", 1)
        for name in ("all", "eth0", "eth1"):
            client.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)
        client.sysctl("net.ipv4.conf.all.arp_announce", 2)  # or the filter would drop its ARP requests
        where = ["--netns", server.namespace]
        program = server.run(sys.executable, "-c", ECHO)
        server.wait_for_port(PORT, program)
        told = finding("10.0.0.3:9", f"10.0.1.1:{PORT}", None, "dropped-by-rp-filter")
        before = state(server)

        def dropped() -> int:
            text = server.read("/proc/net/netstat").splitlines()
            names, numbers = (text[number].split() for number in (0, 1))
            return int(numbers[names.index("IPReversePathFilter")])

        def is_dropped() -> None:
            count = dropped()
            with asking(client, "10.0.1.1") as asks:
                asks.bind(("10.0.0.3", 0))
                asks.sendto(b"who?", ("10.0.1.1", PORT))
                wait_until(lambda: dropped() > count, timeout=5, what="it was not dropped", polling=True)

        is_dropped()
        done = udpkit("fix", "apply", "rp-filter-loose", "--finding", "-", *where, data=told)
        assert done.returncode == 0, done.stderr
        with asking(client, "10.0.1.1") as asks:
            asks.bind(("10.0.0.3", 0))
            assert answerer(asks, "10.0.1.1")
        assert udpkit("fix", "undo", "rp-filter-loose", *where).returncode == 0
        assert state(server) == before
        is_dropped()


@as_root
@pytest.mark.skipif(not shutil.which("conntrack", path=SEARCH_PATH), reason="conntrack is not installed")
def test_a_flow_is_freed_from_its_stale_entry() -> None:
    with Lab() as lab:
        client, router, backend = lab.host("client"), lab.host("router"), lab.host("backend")
        lab.link(client, "eth0", router, "eth0")
        lab.link(backend, "eth0", router, "eth1")
        client.address("eth0", "192.0.2.2/24")
        router.address("eth0", "192.0.2.1/24")
        router.address("eth1", "10.0.0.1/24")
        backend.address("eth0", "10.0.0.2/24")
        router.sysctl("net.ipv4.ip_forward", 1)
        backend.ip("route add default via 10.0.0.1")
        program = backend.run(sys.executable, "-c", ECHO)
        backend.wait_for_port(PORT, program)
        rule = f"iptables -t nat -%s PREROUTING -p udp --dport {PORT} -j DNAT --to %s:{PORT}"
        where = ["--netns", router.namespace]
        with asking(client, "192.0.2.1") as asks:
            router.shell(rule % ("A", "10.0.0.77"))
            asks.sendto(b"?", ("192.0.2.1", PORT))
            told = "conntrack -L -p udp --reply-src 10.0.0.77 2>/dev/null"
            wait_until(lambda: bool(router.shell(told)), timeout=5, what="no entry", polling=True)
            router.shell(rule % ("D", "10.0.0.77") + "; " + rule % ("A", "10.0.0.2"))
            found = udpkit("check", *where, "--json").stdout
            this = ["fix", "apply", "drop-stale-conntrack", "--finding", "-", *where]
            dry = udpkit(*this, "--dry-run", data=found)
            assert (dry.returncode, bool(router.shell(told))) == (0, True), dry.stderr
            done = udpkit(*this, data=found)
            assert done.returncode == 0, done.stderr
            assert "there is no undo" in done.stderr
            assert answerer(asks, "192.0.2.1") == "192.0.2.1"
            again = udpkit(*this, data=found)
            assert again.returncode == 0, again.stderr
            assert "nothing to do" in again.stderr
        undone = udpkit("fix", "undo", "drop-stale-conntrack", *where)
        assert (undone.returncode, undone.stderr) == (2, "udpkit: drop-stale-conntrack has no undo\n")


@as_root
def test_programs_may_ask_for_a_larger_receive_buffer(alone: None) -> None:  # noqa: ARG001
    """The limit is the whole machine's, so that no other test may change it."""
    wanted = 8 << 20
    limit = Path("/proc/sys/net/core/rmem_max")
    if not os.access(limit, os.W_OK) or int(limit.read_text()) >= wanted:
        pytest.skip(f"{limit} cannot be raised here")

    def granted() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
            return one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it

    before = [granted(), *limits()]
    assert granted() < wanted
    try:
        done = udpkit("fix", "apply", "receive-buffer")
        assert done.returncode == 0, done.stderr
        assert granted() == wanted
    finally:
        undone = udpkit("fix", "undo", "receive-buffer")
    assert undone.returncode == 0, undone.stderr
    assert [granted(), *limits()] == before


def limits() -> list[str]:
    return [Path(f"/proc/sys/net/core/{name}").read_text() for name in ("rmem_max", "rmem_default")]


@as_root
def test_a_limit_of_the_machine_cannot_be_raised_from_inside(
    lab: Lab,
    alone: None,  # noqa: ARG001
) -> None:
    host = lab.hosts["server"]
    before = [state(host), *limits()]
    run = udpkit("fix", "apply", "receive-buffer", "--netns", host.namespace)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert [state(host), *limits()] == before


@as_root
def test_what_was_done_is_told_as_a_document(lab: Lab) -> None:
    host = lab.hosts["server"]
    this = ["rp-filter-loose", "--netns", host.namespace, "--json"]
    ends = ["--server", "172.16.13.13:56789", "--client", "172.17.0.3"]
    before = state(host)
    told = {}
    for step, words in (
        ("dry", ["apply", *this, *ends, "--dry-run"]),
        ("done", ["apply", *this, *ends]),
        ("again", ["apply", *this, *ends]),
        ("look", ["undo", *this, "--dry-run"]),
        ("back", ["undo", *this]),
    ):
        run = udpkit("fix", *words)
        assert run.returncode == 0, run.stderr
        told[step] = json.loads(run.stdout)
        assert (told[step]["schema"], told[step]["fix"]) == (1, "rp-filter-loose")
    assert [told[step]["result"] for step in told] == [
        "not applied",
        "applied",
        "there already",
        "not undone",
        "undone",
    ]
    assert told["done"]["commands"] == told["dry"]["commands"][: len(told["done"]["commands"])]
    assert (told["again"]["commands"], told["back"]["changed"]) == ([], [])
    assert told["back"]["commands"] == told["look"]["commands"] != []
    assert state(host) == before


@pytest.mark.parametrize(
    ("process", "says"),
    [
        ("dnsmasq", "dnsmasq.conf: listen-address=192.0.2.1 and bind-interfaces"),
        ("openvpn[77]", "openvpn's configuration: local 192.0.2.1; or multihome"),
        ("charon", "strongswan.conf"),
        ("nc.openbsd", "nc's command line: nc -ul 192.0.2.1 53"),
        ("my-server", "bind the server to 192.0.2.1:53 instead of all addresses"),
        ("nc.traditional", "nc.traditional's command line: -s 192.0.2.1"),
        ("$(reboot)", "bind the server to 192.0.2.1:53"),
    ],
)
def test_how_to_bind_is_printed_for_each_program(process: str, says: str) -> None:
    told = finding("192.0.2.9:1", "192.0.2.1:53", "192.0.2.2:53", "reply-from-other-address", process=process)
    run = udpkit("fix", "apply", "bind", "--finding", "-", data=told)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(says)
    assert "nothing is changed" in run.stderr


def test_advice_has_an_order_and_reasons() -> None:
    told = finding(
        "192.0.2.9:1", "192.0.2.1:53", "192.0.2.2:53", "reply-from-other-address", process="openvpn"
    )
    run = udpkit("fix", "advise", "--finding", "-", "--json", data=f'{{"findings": [{told}]}}')
    assert run.returncode == 1, run.stderr
    [one] = json.loads(run.stdout)["findings"]
    ids = [advice["id"] for advice in one["advice"]]
    assert ids[:2] == ["sockets", "bind"]
    assert set(ids) == {"sockets", "bind", "attach", "route-src", "snat-notrack-incoming", "tcp"}
    assert all(advice["why"] and advice["tradeoff"] for advice in one["advice"])
    obstacles = {advice["id"]: advice["obstacle"] for advice in one["advice"]}
    for name in ("route-src", "snat-notrack-incoming", "attach"):
        assert obstacles[name] == "192.0.2.1 is no address of this host: apply it where the server is"
    shown = udpkit("fix", "advise", "--finding", "-", data=told)
    assert "1. sockets — " in shown.stdout
    assert "not here: 192.0.2.1 is no address" in shown.stdout


@as_root
def test_advice_for_a_process_names_what_can_be_typed(lab: Lab, server: Program) -> None:
    before = state(lab.hosts["server"])
    run = udpkit("fix", "advise", "--pid", str(server.pid), "--json")
    assert run.returncode == 1, run.stderr
    for one in json.loads(run.stdout)["findings"]:
        commands = {advice["id"]: advice["command"] for advice in one["advice"]}
        assert f"--pid {server.pid}" in commands["attach"]
        dry = subprocess.run(
            ["sh", "-c", f"{commands['route-src'].replace('udpkit', UDPKIT, 1)} --dry-run"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert dry.returncode == 0, dry.stderr
        assert dry.stdout.startswith("ip ")
    assert state(lab.hosts["server"]) == before


HOSTILE = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "a list": "[]",
    "no text": '{"findings": 7}',
    "no object": '{"findings": [7]}',
    "a number": '{"code": "reply-from-other-address", "server": 7}',
    "another code": '{"code": "$(reboot)"}',
    "bytes": "\udcff",
    **{
        f"server {text}": finding("172.17.0.3:1", text, None, "reply-from-other-address")
        for text in (
            "$(touch owned):53",
            "172.16.13.13;touch owned:53",
            "172.16.13.13:53;touch owned",
            "172.16.13.13\n:53",
            "172.16.13.13:99999",
            "[fe80::1%$(touch owned)]:53",
            "[fe80::1%;reboot]:53",
            "\uff1172.16.13.13:53",
            "web.example:53",
            "[fd16::13]:53",
            "9" * 5000,
        )
    },
    **{
        f"client {text}": finding(text, "172.16.13.13:53", None, "reply-from-other-address")
        for text in (
            "172.17.0.0/16;reboot",
            "172.17.0.0/99",
            "-j ACCEPT",
            "fe80::1%eth0",
            "255.255.255.255:1",
        )
    },
}


@pytest.mark.parametrize("told", HOSTILE.values(), ids=[name[:20] for name in HOSTILE])
@pytest.mark.parametrize("name", ["route-src", "bind"])
def test_hostile_findings_are_refused(tmp_path: Path, told: str, name: str) -> None:
    if name == "bind" and "255.255" in told:
        return
    file = tmp_path / "finding.json"
    file.write_bytes(told.encode(errors="surrogateescape"))
    run = udpkit("fix", "apply", name, "--finding", str(file), "--dry-run")
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    assert run.stderr.count("\n") == 1
    assert not Path("owned").exists()


@as_root
def test_an_interface_with_an_evil_name_is_quoted() -> None:
    with Lab() as lab:
        host = new_host(lab, "server")
        lab.plug(host, "eth0")
        host.ip("link set eth0 down")
        host.ip("link set eth0 name 'a;id>&2;`id`'")
        host.ip("address add 10.0.0.1/24 dev 'a;id>&2;`id`'")
        host.ip("address add 10.0.9.1/24 dev 'a;id>&2;`id`'")
        host.ip("link set 'a;id>&2;`id`' up")
        this = ["--server", "10.0.9.1:1", "--client", "10.0.0.3", "--netns", host.namespace]
        before = state(host)
        done = udpkit("fix", "apply", "route-src", *this)
        assert done.returncode == 0, done.stderr
        assert "uid=" not in done.stdout + done.stderr
        undone = udpkit("fix", "undo", "route-src", "--netns", host.namespace)
        assert undone.returncode == 0, undone.stderr
        assert state(host) == before


@pytest.mark.parametrize(
    "arguments",
    [["apply", "rp-filter-loose"], ["undo", "rp-filter-loose"], ["apply", "receive-buffer"]],
    ids=" ".join,
)
def test_without_privilege_it_says_so_and_touches_nothing(arguments: list[str]) -> None:
    argv = [UDPKIT, "fix", *arguments]
    if is_real_root():
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", *argv]
    run = subprocess.run(
        argv, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment()
    )
    assert (run.returncode, run.stdout) == (5, "")
    assert run.stderr.startswith("udpkit: changing this host takes root")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["apply", "no-such"], 2, "there is no fix no-such; there are drop-stale-conntrack, receive-buffer"),
        (["apply", "snat"], 2, "snat is folklore: Does not help"),
        (["apply", "route-src", "--dry-run"], 2, "the finding does not tell the"),
        (["apply", "route-src", "--finding", "/no/such"], 2, "/no/such: No such file"),
        (["apply", "route-src", "--finding", "-", "--server", "192.0.2.1:1"], 2, "--finding excludes"),
        (["undo", "bind"], 2, "bind has no undo: it is printed, never applied"),
        (["advise", "--pid", "1", "--netns", "x"], 2, "--netns, --pid and --container exclude each other"),
        (["verify", "--pid", "1", "--netns", "x"], 2, "--netns, --pid and --container exclude each other"),
        (["verify", "--netns", ""], 2, "--netns : No such file"),
        (["advise", "--pid", "4194304"], 2, "--pid 4194304: there is no such process"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], code: int, says: str) -> None:
    run = udpkit("fix", *arguments)
    assert (run.returncode, run.stdout) == (code, "")
    assert run.stderr.startswith(f"udpkit: {says}")
    assert run.stderr.count("\n") == 1


@as_root
def test_a_program_that_is_missing_is_named(lab: Lab, tmp_path: Path) -> None:
    for tool in ("sh", "ip", "sed"):
        (tmp_path / tool).symlink_to(shutil.which(tool, path=SEARCH_PATH) or tool)
    host = lab.hosts["server"]
    ends = ["--server", "172.16.13.13:1", "--client", "172.17.0.3", "--actual", "172.17.0.1"]
    runs = (
        "from udpkit.fixes import applying\n"
        f"applying.SEARCH_PATH = {str(tmp_path)!r}\n"
        "from udpkit.cli import main; main()\n"
    )
    arguments = ["fix", "apply", "snat-notrack-incoming", *ends, "--netns", host.namespace]
    run = subprocess.run(
        [sys.executable, "-c", runs, *arguments], timeout=TIMEOUT, check=False, capture_output=True, text=True
    )
    assert run.returncode == 5, run.stderr
    assert run.stderr == "udpkit: iptables is not installed, which this fix needs\n"
