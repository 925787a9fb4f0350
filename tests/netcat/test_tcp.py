"""Over TCP: both directions, both ends, and looking for open ports."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from udpkit.lab import Host, wait_until
from udpkit.netcat import Plan, tcp

from .talking import COMMAND, OTHERS, PORT, SOON, converse, ends, listener, prints, start, tells

SERVERS = {
    "udpkit": ["-l", str(PORT)],
    "nc.openbsd": ["-l", str(PORT)],
    "ncat": ["-l", str(PORT)],
    "socat": ["-", f"TCP-LISTEN:{PORT}"],
}
CLIENTS = {
    "udpkit": ["127.0.0.1", str(PORT)],
    "nc.openbsd": ["127.0.0.1", str(PORT)],
    "ncat": ["127.0.0.1", str(PORT)],
    "socat": ["-", f"TCP:127.0.0.1:{PORT}"],
}
PAIRS = [("udpkit", "udpkit"), *(("udpkit", one) for one in OTHERS), *((one, "udpkit") for one in OTHERS)]
HALF_CLOSE = {"udpkit": ["-N"], "nc.openbsd": ["-N"], "ncat": [], "socat": ["-t", str(SOON)]}
"""Flags to tell the peer of the end of stdin, and to go on reading."""


@pytest.mark.parametrize(("server", "client"), PAIRS)
def test_every_netcat_talks_to_every_other(host: Host, server: str, client: str) -> None:
    serving = listener(host, server, *SERVERS[server])
    converse(start(host, client, *CLIENTS[client]), serving)


@pytest.mark.parametrize(("server", "client"), [pair for pair in PAIRS if "ncat" not in pair])
def test_a_mebibyte_each_way_arrives_intact(host: Host, tmp_path: Path, server: str, client: str) -> None:
    """Files as stdin, each side half closed at its end."""
    start(host, server, "-V" if server == "socat" else "-h")  # skips where it is missing
    start(host, client, "-V" if client == "socat" else "-h")
    there, back = os.urandom(1 << 20), os.urandom((1 << 20) + 1)
    (tmp_path / "there").write_bytes(there)
    (tmp_path / "back").write_bytes(back)
    programs = {one: COMMAND if one == "udpkit" else one for one in (server, client)}
    lines = [
        (server, HALF_CLOSE[server] + SERVERS[server], "back"),
        (client, HALF_CLOSE[client] + CLIENTS[client], "there"),
    ]
    running = []
    for name, arguments, file in lines:
        running.append(
            host.run("sh", "-c", f"exec {programs[name]} {' '.join(arguments)} < {tmp_path}/{file}")
        )
        if not running[1:]:
            host.wait_for_port(PORT, running[0], timeout=SOON)
    wait_until(
        lambda: all(one.status is not None for one in running),
        running,
        timeout=SOON,
        what="they did not end",
    )
    assert [ends(one, 0) for one in running] == ["", ""]
    assert (bytes(running[0].output), bytes(running[1].output)) == (there, back)


def test_a_client_goes_on_reading_after_the_end_of_stdin(host: Host) -> None:
    serving = listener(host, "nc.openbsd", *SERVERS["nc.openbsd"])
    client = start(host, "udpkit", *CLIENTS["udpkit"])
    client.type(b"question\n")
    client.close_input()
    prints(serving, b"question\n")
    serving.type(b"answer\n")
    prints(client, b"answer\n")
    serving.stop()
    ends(client, 0)


def test_the_end_of_stdin_is_told_with_its_flag(host: Host) -> None:
    serving = listener(host, "socat", "-u", f"TCP-LISTEN:{PORT}", "-")
    client = start(host, "udpkit", "-N", *CLIENTS["udpkit"])
    client.type(b"all\n")
    client.close_input()
    prints(serving, b"all\n")
    ends(serving, 0)
    ends(client, 0)


def test_a_listener_ends_with_its_peer(host: Host) -> None:
    serving = listener(host, "udpkit", *SERVERS["udpkit"])
    client = start(host, "ncat", "--send-only", *CLIENTS["ncat"])
    client.type(b"x\n")
    client.close_input()
    prints(serving, b"x\n")
    ends(serving, 0)


def test_a_listener_ends_with_its_peer_or_waits_for_stdin_if_told_to(host: Host) -> None:
    """As nc and ncat do; -q -1 is for a producer that is slow. The one that ends is the other's clock."""
    waiting = listener(host, "udpkit", "-q-1", "-l", str(PORT))
    ending = listener(host, "udpkit", "-l", str(PORT + 1), port=PORT + 1)
    clients = [host.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(2)]
    for client, serving, port in zip(clients, (waiting, ending), (PORT, PORT + 1), strict=True):
        client.settimeout(SOON)
        client.connect(("127.0.0.1", port))
        client.shutdown(socket.SHUT_WR)
        serving.type(b"first\n")
        assert client.recv(100) == b"first\n"
    ends(ending, 0)
    assert clients[1].recv(100) == b""
    waiting.type(b"second\n")
    assert clients[0].recv(100) == b"second\n"
    waiting.close_input()
    ends(waiting, 0)
    for client in clients:
        client.close()


def test_without_any_time_what_is_on_stdin_is_sent(host: Host, tmp_path: Path) -> None:
    serving = listener(host, "udpkit", *SERVERS["udpkit"])
    (tmp_path / "message").write_bytes(b"message")
    host.shell(f"{COMMAND} -w0 127.0.0.1 {PORT} < {tmp_path}/message")
    prints(serving, b"message")


def test_a_link_local_address_without_its_scope_is_named(host: Host) -> None:
    for arguments in (["fe80::1", str(PORT)], ["-l", "fe80::1", str(PORT)]):
        assert "fe80::1 is link-local: add its interface, fe80::1%eth0" in ends(
            start(host, "udpkit", *arguments), 2
        )


def test_a_second_peer_is_refused_without_keep(host: Host) -> None:
    serving = listener(host, "udpkit", *SERVERS["udpkit"])
    converse(start(host, "udpkit", *CLIENTS["udpkit"]), serving)
    assert "connection refused" in ends(start(host, "udpkit", *CLIENTS["udpkit"]), 1)


def test_with_keep_one_peer_after_another_is_served(host: Host) -> None:
    serving = listener(host, "udpkit", "-k", *SERVERS["udpkit"])
    for _ in range(3):
        client = start(host, "udpkit", *CLIENTS["udpkit"])
        converse(client, serving)
        client.stop()


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        addresses = [(socket.AF_INET, one.getsockname()) for one in (taken, server)]
        monkeypatch.setattr(tcp, "find", lambda *_: addresses)
        told: list[str] = []
        with tcp.connect(Plan(host="both"), 1, lambda event, *_, **__: told.append(event)) as connection:
            assert connection.getpeername() == server.getsockname()
        assert told == ["failed", "connected"]


def test_a_reset_is_told(host: Host) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", PORT))
        server.listen()
        client = start(host, "udpkit", *CLIENTS["udpkit"])
        connection, _ = server.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        assert ends(client, 1) == f"udpkit: 127.0.0.1 port {PORT}: connection reset by peer\n"


def test_source_address_and_port_are_as_asked(host: Host) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", PORT))
        server.listen()
        server.settimeout(SOON)
        start(host, "udpkit", "-p", "7777", "-s", "127.0.0.9", *CLIENTS["udpkit"])
        connection, peer = server.accept()
        connection.close()
        assert peer == ("127.0.0.9", 7777)


def test_nothing_for_so_long_ends_it(host: Host) -> None:
    serving = listener(host, "udpkit", "-w", "0.1", *SERVERS["udpkit"])
    client = start(host, "udpkit", *CLIENTS["udpkit"])
    ends(serving, 0)
    client.close_input()
    ends(client, 0)


def test_who_does_not_answer_is_not_waited_for(host: Host) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as full:
        full.bind(("127.0.0.1", PORT))
        full.listen(0)
        fillers = [host.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(4)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", PORT))  # a full backlog drops further SYNs (tcp_conn_request())
        assert "timed out" in ends(start(host, "udpkit", "-w", "0.2", *CLIENTS["udpkit"]), 3)
        for one in fillers:
            one.close()


def test_scanning_says_which_ports_are_open(host: Host) -> None:
    listener(host, "udpkit", "-lk", str(PORT))
    scan = start(host, "udpkit", "-zv", "127.0.0.1", f"{PORT - 1}-{PORT + 1}", "7")
    told = ends(scan, 0).splitlines()
    assert told == [
        f"udpkit: 127.0.0.1:{PORT - 1} (TCP): connection refused",
        f"udpkit: Connection to 127.0.0.1 {PORT} port [tcp/*] succeeded!",
        f"udpkit: 127.0.0.1:{PORT + 1} (TCP): connection refused",
        "udpkit: 127.0.0.1:7 (TCP): connection refused",
    ]
    assert ends(start(host, "udpkit", "-z", "127.0.0.1", "7"), 1) == ""


def test_listening_says_who_comes(host: Host) -> None:
    serving = listener(host, "udpkit", "-v", *SERVERS["udpkit"])
    tells(serving, f"listening on TCP [::]:{PORT}")
    start(host, "udpkit", *CLIENTS["udpkit"])
    tells(serving, f"asks 127.0.0.1:{PORT}")
