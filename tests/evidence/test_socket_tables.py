"""Readers of pasted socket tables: real output of the installed tools, pasted ones, damaged ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest
from diagnosis.build import at
from hypothesis import given
from hypothesis import strategies as st

from udpkit.diagnosis import diagnose
from udpkit.evidence import is_sockets, read_socket_text
from udpkit.evidence.programs import SEARCH_PATH
from udpkit.facts import Case, SocketEntry, SocketTable, Source
from udpkit.lab import Lab
from udpkit.lab.host import Host

SERVER = """
import socket, time
def udp(family, address, peer=None, device=b""):
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    one.bind(address)
    if peer: one.connect(peer)
    return one
four, six = socket.AF_INET, socket.AF_INET6
kept = [udp(four, ("0.0.0.0", 53)), udp(six, ("::", 67)), udp(six, ("::ffff:127.0.0.1", 5353)),
        udp(four, ("127.0.0.1", 123), ("127.0.0.1", 4000), b"lo"), udp(six, ("::1", 546), ("::1", 547))]
time.sleep(60)
"""
SOCKETS = {
    ("0.0.0.0:53", None),
    ("[::]:67", None),
    ("[::ffff:127.0.0.1]:5353", None),
    ("127.0.0.1:123", "127.0.0.1:4000"),
    ("[::1]:546", "[::1]:547"),
}
TOOLS = {
    "ss": ["ss -uanp", "ss -uanpem", "ss -uanpO -i -e", "ss -Huanp", "ss -uap", "ss -tuanp"],
    "netstat": ["netstat -uanp", "netstat -uap", "netstat -uanpe", "netstat -anp", "netstat -uanpW"],
    "lsof": ["lsof -i UDP -nP", "lsof -i UDP -n", "lsof -nP -i"],
    "cat": ["cat /proc/net/udp /proc/net/udp6", "cat /proc/net/udp6 /proc/net/udp"],
}

NETSTAT_BEFORE_AFTER = """\
udp        0      0 0.0.0.0:56789           0.0.0.0:*                           3467509/nc
udp        0      0 172.17.0.1:56789        172.17.0.2:45609        ESTABLISHED 3467509/nc
"""
SS_BEFORE_AFTER = """\
$ ss -uanp | grep nc
UNCONN 0      0            0.0.0.0:56789      0.0.0.0:*    users:(("nc",pid=7,fd=3))
$ ss -uanp | grep nc
ESTAB  0      0         172.17.0.1:56789   172.17.0.3:38908 users:(("nc",pid=7,fd=3))
"""
SS_TWICE = """\
State  Recv-Q Send-Q      Local Address:Port  Peer Address:PortProcess
UNCONN 0      0                 0.0.0.0:56789      0.0.0.0:*
State  Recv-Q Send-Q      Local Address:Port  Peer Address:PortProcess
ESTAB  0      0              172.17.0.1:56789   172.17.0.3:38908
"""
ONE_OF_A_SERVER_THAT_CONNECTS_FURTHER_SOCKETS = """\
Active Internet connections (servers and established)
Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name
udp        0      0 0.0.0.0:1194            0.0.0.0:*                           9/server
udp        0      0 172.17.0.1:1194         172.17.0.2:45609        ESTABLISHED 9/server
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        host = lab.host("server")
        server = host.run(sys.executable, "-c", SERVER)
        host.wait_for_port(5353, server)
        host.wait_for_port(67, server)
        # Connected sockets wait for nobody: the tools are asked when the last one is there.
        while "[::1]:547" not in host.shell("ss -uan"):
            assert server.status is None, server.last_words()
        yield host


def ends(table: SocketTable) -> set[tuple[str, str | None]]:
    return {(_shown(str(entry.local)), _shown(str(entry.peer))) for entry in table.entries}


def _shown(endpoint: str) -> str | None:
    return None if endpoint == "None" else endpoint.replace("::ffff:7f00:1", "::ffff:127.0.0.1")


@pytest.mark.parametrize(("tool", "line"), [(tool, line) for tool, lines in TOOLS.items() for line in lines])
def test_every_tool_shows_the_same_sockets(host: Host, tool: str, line: str) -> None:
    if not shutil.which(tool, path=SEARCH_PATH):
        pytest.skip(f"{tool} is not installed")
    text = host.shell(line)
    assert is_sockets(text)
    [table] = read_socket_text(text, source=3)
    # lsof shows ::ffff:127.0.0.1 as 127.0.0.1, whose name is localhost, which is ::1 of an IPv6 socket.
    assert ends(table) == SOCKETS
    if tool != "cat":
        [(name, pid)] = {(entry.process, entry.pid) for entry in table.entries}
        assert name
        assert name.startswith("python")
        assert pid
    lines = text.split("\n")
    for entry in table.entries:
        assert entry.seen.source == 3
        port = f":{entry.local.port:04X} " if tool == "cat" else f":{entry.local.port}"
        assert named(line) or port in lines[(entry.seen.line or 0) - 1]


def named(line: str) -> bool:
    return line in ("ss -uap", "netstat -uap", "lsof -i UDP -n")


def test_what_only_ss_tells(host: Host) -> None:
    [table] = read_socket_text(host.shell("ss -uanpem"), source=0)
    by_port = {entry.local.port: entry for entry in table.entries}
    assert by_port[123].device == "lo"
    assert by_port[67].options == {"IPV6_V6ONLY": 0}
    assert by_port[53].drops == 0
    assert by_port[53].queued == 0
    assert by_port[53].inode


@pytest.mark.parametrize("text", [NETSTAT_BEFORE_AFTER, SS_BEFORE_AFTER, SS_TWICE])
def test_two_tables_show_a_listener_that_became_connected(text: str) -> None:
    before, after = read_socket_text(text, source=0)
    [waiting], [connected] = before.entries, after.entries
    assert (waiting.local, waiting.peer) == (at("0.0.0.0:56789"), None)
    assert connected.local == at("172.17.0.1:56789")
    [finding] = diagnose(Case([Source("x", "sockets")], tables=[before, after]))
    assert finding.code == "listener-locked-to-first-peer"
    assert [reference.line for reference in finding.evidence] == [waiting.seen.line, connected.seen.line]


def test_two_sockets_of_one_table_are_no_two_moments() -> None:
    [table] = read_socket_text(ONE_OF_A_SERVER_THAT_CONNECTS_FURTHER_SOCKETS, source=0)
    assert len(table.entries) == 2
    assert diagnose(Case([Source("x", "sockets")], tables=[table])) == []


def row(text: str) -> SocketEntry:
    [table] = read_socket_text(text, source=0)
    [entry] = table.entries
    return entry


@pytest.mark.parametrize(
    ("text", "local", "peer"),
    [
        ("UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*", "127.0.0.53:53", None),
        ("UNCONN 0 0 [fe80::1]%eth0:546 [::]:*", "[fe80::1%eth0]:546", None),
        ("UNCONN 0 0 fe80::1%eth0:546 :::*", "[fe80::1%eth0]:546", None),
        ("UNCONN 0 0 :::53 :::*", "[::]:53", None),
        ('UNCONN 0 0 *:bootpc *:* users:(("dhclient",1,6))\nUNCONN 0 0 :::x :::*', "0.0.0.0:68", None),
        (
            "State Recv-Q\nRecv-Q Send-Q Local Address:Port Peer Address:Port\n0 0 0.0.0.0:53 0.0.0.0:*",
            "0.0.0.0:53",
            None,
        ),
        ("udp6 0 0 fe80::5054:ff:fe12:546 :::* 1/dhclient", "[fe80::5054:ff:fe12]:546", None),
        ("udp 0 0 10.0.0.1:4000 dns.example:domain ESTABLISHED 1/x y", "10.0.0.1:4000", "dns.example:53"),
        ("dig 9 root 20u IPv4 77 0t0 UDP 10.0.0.1:53->10.0.0.2:4000", "10.0.0.1:53", "10.0.0.2:4000"),
    ],
)
def test_spellings(text: str, local: str, peer: str | None) -> None:
    entry = row(text)
    assert str(entry.local) == local
    assert (str(entry.peer) if entry.peer else None) == peer


def test_an_ipv6_address_that_netstat_cut_is_not_taken_for_another_one() -> None:
    entry = row("udp6       0      0 fe80::5054:ff:fe12::546 :::*                                1/dhclient")
    assert str(entry.local) == "[fe80::5054:ff:fe12:…]:546"
    assert entry.local.address.is_link_local is False


def test_a_name_has_the_address_that_tcpdumps_text_gives_it() -> None:
    """`candidates` in crates/text/src/tcpdump/ends.rs, by hand: FNV-1a of `a` is af63dc4c8601ec8c."""
    entry = row("udp 0 0 A:53 b:53 ESTABLISHED 1/x")
    assert (
        int(entry.local.address) == 0xF0000000 | (0xAF63DC4C ^ 0x8601EC8C ^ (0xAF63DC4C << 32)) % 0x0FFFFFFF
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\nESTAB 0 0 10.0.0.1:22 10.0.0.2:4000",  # ss -tan
        "tcp 0 0 0.0.0.0:22 0.0.0.0:* LISTEN 1/sshd",
        "tcp UNCONN 0 0 0.0.0.0:22 0.0.0.0:*",
        "sshd 1 root 3u IPv4 77 0t0 TCP *:22 (LISTEN)",
        "udp 0 0 0.0.0.0:nobodyknows 0.0.0.0:*",
        "udp 0 0 0.0.0.0:65536 0.0.0.0:*",
        "14:48:42.514345 IP 172.17.0.2.44182 > 192.168.106.242.rrac: UDP, length 6",
        "udplite 0 0 0.0.0.0:53 0.0.0.0:*",
    ],
)
def test_other_text_is_no_table(text: str) -> None:
    assert read_socket_text(text, source=0) == []


WORDS = [
    "udp",
    "udp6",
    "UNCONN",
    "ESTAB",
    "0",
    "0.0.0.0:53",
    "*:*",
    ":::*",
    "[::1%",
    "]:5",
    "UDP",
    "IPv4",
    "->",
]
USERS = 'users:(("a",pid=1,fd='
HEADER = "State Recv-Q Send-Q Local Address:Port\n"
PIECES = st.sampled_from([*(f"{word} " for word in WORDS), USERS, "\n", HEADER, "skmem:(r1,d2)", "9" * 30])


@given(st.lists(PIECES | st.text(max_size=9)).map("".join))
def test_hostile_text_never_raises(text: str) -> None:
    read_socket_text(text, source=0)
    is_sockets(text)


@given(
    st.lists(st.sampled_from(["", "$ ss -uanp", "Netid", "tcp 0 0 a:1 b:2 LISTEN", "Total: 5", "\x1b[0m"]))
)
def test_lines_between_rows_only_move_them(between: list[str]) -> None:
    rows = ["UNCONN 0 0 0.0.0.0:53 0.0.0.0:*", "UNCONN 0 0 0.0.0.0:67 0.0.0.0:*"]
    [table] = read_socket_text("\n".join([rows[0], *between, rows[1]]), source=0)
    assert [entry.local.port for entry in table.entries] == [53, 67]
    assert [entry.seen.line for entry in table.entries] == [1, 2 + len(between)]


def test_a_line_that_never_ends_costs_little() -> None:
    assert read_socket_text("udp 0 0 " + ":" * 10_000_000, source=0) == []


ROW = "  84: 00000000:1F4A 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000 0 8643 2 ffff88 0"


@pytest.mark.parametrize(
    ("text", "sockets"),
    [
        (f"// {ROW}\n//{ROW}", 1),
        (f"| {ROW}", 1),
        (f"$ cat /proc/net/icmp\n{ROW}", 0),
        (f"$ cat /proc/net/icmp\n{ROW}\n$ cat /proc/net/udp\n{ROW}", 1),
        (f"{ROW} 100 0 0 10 0", 0),  # /proc/net/tcp
        ("# UNCONN 0 0 0.0.0.0:53 0.0.0.0:* users:", 1),
        ("udp        0      0 0.0.0.0:631             0.0.0.0:*****               -", 1),
        ("  >> named   1360 nobody    4u  inet   2010      0t0  UDP *:54", 1),
    ],
)
def test_tables_that_were_quoted_and_what_looks_like_one(text: str, sockets: int) -> None:
    tables = read_socket_text(text, source=0)
    assert sum(len(table.entries) for table in tables) >= sockets
    assert bool(tables) == bool(sockets)


def test_a_row_whose_ports_name_nobody_knows_is_a_table_all_the_same() -> None:
    assert is_sockets(">> named   1360 nobody    4u  inet   2010      0t0  UDP *:nonesuch")
