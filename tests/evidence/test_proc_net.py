import os
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from udpkit.evidence import proc_net_udp, proc_net_waiting_ports
from udpkit.facts import Endpoint, Reference, SocketEntry

from .build import column, row

HEADER = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode ref pointer drops"
)


def entries(*lines: str, owners=None):
    return proc_net_udp("\n".join(lines), owners or {}, source=0).entries


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "0.0.0.0", "172.16.13.13", "::", "fd00::1:2", "::ffff:10.0.0.1"]
)
def test_an_unconnected_socket_has_no_peer(address):
    [entry] = entries(HEADER, row(column(address, 56789), column("::", 0)[-len(column(address, 0)) :]))
    assert entry == SocketEntry(
        Reference(0, line=2), Endpoint(ip_address(address), 56789), None, inode=7, drops=0, queued=0
    )


@pytest.mark.parametrize(("ours", "theirs"), [("172.17.0.1", "172.17.0.3"), ("fd00::1", "fd00::3")])
def test_a_connected_socket_has_its_peer(ours, theirs):
    [entry] = entries(row(column(ours, 53), column(theirs, 40000), state="01"))
    assert (str(entry.local.address), str(entry.peer.address), entry.peer.port) == (ours, theirs, 40000)


def test_owners_and_drops_and_the_moment_are_kept():
    text = row(column("127.0.0.1", 1), inode=42, drops=3) + "\n" + row(column("127.0.0.1", 2), inode=43)
    table = proc_net_udp(text, {42: "dnsmasq"}, source=5, time_ns=9, host="server")
    assert (table.host, table.time_ns) == ("server", 9)
    assert [(entry.process, entry.drops, entry.seen) for entry in table.entries] == [
        ("dnsmasq", 3, Reference(5, line=1)),
        (None, 0, Reference(5, line=2)),
    ]


GOOD = row(column("127.0.0.1", 53))
HOSTILE = [
    "",
    HEADER,
    GOOD[:60],
    GOOD.lower().replace("7f", "7g"),
    row("7F000001:00035"),
    row("0100007F0:0035"),
    row("0100007F:0035", "000000000:0000", state="01"),
    row("0100007F:0035", "0" * 16 + ":0000", state="01"),
    row("0100007F:0035", "0" * 31 + ":0000", state="01"),
    row("0100007F:0035", column("fd00::1", 53), state="01"),
    row("0100007F:0035").replace(" 7 ", " \N{ARABIC-INDIC DIGIT SEVEN} "),
    row("0100007F:0035", inode="9" * 5000),
    row("0100007F:0035", drops="9" * 5000),
]


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: line[:50])
def test_a_line_that_is_no_row_is_passed_over_and_the_next_is_read(line):
    assert [entry.seen.line for entry in entries(line, GOOD)] == [2]


DIGITS = st.sampled_from([7, 8, 9, 16, 31, 32, 33]).flatmap(lambda n: st.text("05AF", min_size=n, max_size=n))
ROWISH = st.builds(
    row, DIGITS.map("{}:0035".format), DIGITS.map("{}:0035".format), st.sampled_from(["01", "07", "0A"])
)


@given(st.one_of(st.text(), st.lists(ROWISH).map("\n".join)))
@example("\x1c\x85\u2028" + GOOD)
def test_no_text_raises(text):
    proc_net_udp(text, {}, source=0)
    proc_net_waiting_ports(text)


@given(st.ip_addresses(), st.integers(0, 0xFFFF), st.data())
def test_what_a_kernel_would_print_is_read_back(address, port, data):
    peer = data.draw(st.one_of(st.none(), st.ip_addresses(v=address.version)))
    remote, state = (column(str(peer), port), "01") if peer else ("00000000:0000", "07")
    if not peer and address.version == 6:
        remote = column("::", 0)
    [entry] = entries(row(column(str(address), port), remote, state))
    assert (entry.local, entry.peer) == (Endpoint(address, port), Endpoint(peer, port) if peer else None)


def test_waiting_ports_are_those_of_listeners_and_unconnected_sockets():
    states = {53: "07", 80: "0A", 40000: "01", 40001: "06"}
    text = "\n".join(row(column("0.0.0.0", port), state=state) for port, state in states.items())
    assert proc_net_waiting_ports(text) == {53, 80}


@pytest.mark.parametrize(
    ("family", "address", "table"), [(socket.AF_INET, "127.0.0.1", "udp"), (socket.AF_INET6, "::1", "udp6")]
)
def test_this_kernels_table_has_our_socket(family, address, table):
    try:
        ours, peer = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        ours.bind((address, 0))
        peer.bind((address, 0))
    except OSError as error:
        pytest.skip(str(error))
    with ours, peer:
        inode = os.fstat(ours.fileno()).st_ino
        found = []
        for connect in (lambda: None, lambda: ours.connect(peer.getsockname())):
            connect()
            text = Path("/proc/net", table).read_text()
            found += [
                entry for entry in proc_net_udp(text, {inode: "us"}, source=0).entries if entry.inode == inode
            ]
        unconnected, connected = found
        assert unconnected.local == connected.local == Endpoint(ip_address(address), ours.getsockname()[1])
        assert (unconnected.peer, connected.peer) == (
            None,
            Endpoint(ip_address(address), peer.getsockname()[1]),
        )
        assert connected.process == "us"
