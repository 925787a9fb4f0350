"""Over UDP: who may speak, who refused, and bytes as they are."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from udpkit.lab import Host, Lab, wait_until

from .conftest import Bridged
from .talking import CHUNK, COMMAND, OTHERS, PORT, SOON, converse, ends, listener, prints, start, tells

SERVERS = {
    "udpkit": ["-ul", str(PORT)],
    "nc.openbsd": ["-ul", str(PORT)],
    "ncat": ["-ul", str(PORT)],
    "socat": ["-", f"UDP4-LISTEN:{PORT}"],
}
CLIENTS = {
    "udpkit": ["-u", "127.0.0.1", str(PORT)],
    "nc.openbsd": ["-u", "127.0.0.1", str(PORT)],
    "ncat": ["-u", "127.0.0.1", str(PORT)],
    "socat": ["-", f"UDP4:127.0.0.1:{PORT}"],
}


@pytest.mark.parametrize(
    ("server", "client"),
    [("udpkit", "udpkit"), *(("udpkit", one) for one in OTHERS), *((one, "udpkit") for one in OTHERS)],
)
def test_every_netcat_talks_to_every_other(host: Host, server: str, client: str) -> None:
    serving = listener(host, server, *SERVERS[server])
    converse(start(host, client, *CLIENTS[client]), serving)


@pytest.mark.parametrize(
    "arguments",
    [
        f"-ul 127.0.0.1 {PORT}",
        f"-ul -p {PORT}",
        f"-ul -p {PORT} 127.0.0.1",
        f"-ul -s 127.0.0.1 {PORT}",
        f"-lup{PORT}",
        f"{PORT} -4lu",
        "-ul ntp",
    ],
)
def test_where_to_listen_is_said_as_nc_and_ncat_have_it(host: Host, arguments: str) -> None:
    port = 123 if "ntp" in arguments else PORT
    serving = listener(host, "udpkit", *arguments.split(), port=port)
    converse(start(host, "udpkit", "-u", "127.0.0.1", str(port)), serving)


@pytest.mark.parametrize("client", ["udpkit", *OTHERS])
def test_a_listener_answers_from_the_address_that_was_asked(bridged: Bridged, client: str) -> None:
    """The story of docker0: with other netcats the second line gets nowhere."""
    serving = listener(bridged.server, "udpkit", "-ul", str(PORT))
    asking = [argument.replace("127.0.0.1", bridged.asked) for argument in CLIENTS[client]]
    converse(start(bridged.client, client, *asking), serving)


def test_an_answer_from_another_address_is_told_and_not_taken(bridged: Bridged) -> None:
    serving = listener(bridged.server, "ncat", "-ul", str(PORT))
    client = start(bridged.client, "udpkit", "-u", "-q0.2", bridged.asked, str(PORT))
    client.type(b"hello\n")
    prints(serving, b"hello\n")
    serving.type(b"world\n")
    tells(client, f"6 bytes came from {bridged.routed}:{PORT}, but {bridged.asked}:{PORT} was asked")
    client.close_input()
    client.wait(SOON)
    assert (client.output, client.status) == (b"", 1)


def test_any_source_takes_an_answer_from_another_address(bridged: Bridged) -> None:
    serving = listener(bridged.server, "ncat", "-ul", str(PORT))
    client = start(bridged.client, "udpkit", "-u", "--any-source", bridged.asked, str(PORT))
    client.type(b"hello\n")
    prints(serving, b"hello\n")
    serving.type(b"world\n")
    prints(client, b"world\n")
    client.drain()
    assert client.errors == b""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_refusal_says_who_refused(host: Host, address: str) -> None:
    client = start(host, "udpkit", "-u", address, str(PORT))
    client.type(b"anybody?\n")
    where = f"[{address}]" if ":" in address else address
    tells(client, f"refused: port unreachable to {where}:{PORT}, said by {address}")
    client.close_input()
    ends(client, 1)


def test_a_server_that_starts_later_is_reached_by_typing_again(host: Host) -> None:
    client = start(host, "udpkit", *CLIENTS["udpkit"])
    client.type(b"anybody?\n")
    tells(client, "refused")
    converse(client, listener(host, "udpkit", *SERVERS["udpkit"]))


def test_a_refused_client_without_more_to_send_ends(host: Host) -> None:
    client = start(host, "udpkit", *CLIENTS["udpkit"])
    client.type(b"anybody?\n")
    client.close_input()
    assert len(ends(client, 1).splitlines()) == 1


def test_an_unreachable_peer_is_another_exit_code(host: Host) -> None:
    client = start(host, "udpkit", "-u", "192.0.2.1", str(PORT))
    client.type(b"anybody?\n")
    client.close_input()
    assert ends(client, 4) == f"udpkit: unreachable: no route to 192.0.2.1:{PORT}\n"


def test_a_prohibited_peer_is_no_broadcast_address(host: Host) -> None:
    """connect(2) says EACCES to both."""
    host.ip("route add prohibit 192.0.2.0/24")
    client = start(host, "udpkit", "-u", "192.0.2.1", str(PORT))
    client.type(b"anybody?\n")
    client.close_input()
    assert ends(client, 4) == f"udpkit: unreachable: broadcast or route prohibited to 192.0.2.1:{PORT}\n"


def test_a_firewall_on_the_way_is_named() -> None:
    with Lab() as lab:
        client, router = lab.host("client"), lab.host("router")
        lab.link(client, "eth0", router, "eth0")
        client.address("eth0", "192.0.2.1/24")
        router.address("eth0", "192.0.2.254/24")
        client.ip("route add default via 192.0.2.254")
        router.sysctl("net.ipv4.ip_forward", 1)
        router.ip("route add prohibit 198.51.100.0/24")
        asking = start(client, "udpkit", "-u", "198.51.100.7", str(PORT))
        asking.type(b"anybody?\n")
        asking.close_input()
        assert "administratively prohibited to 198.51.100.7:5300, said by 192.0.2.254" in ends(asking, 4)


def test_others_do_not_disturb_the_first_peer(host: Host) -> None:
    serving = listener(host, "udpkit", "-v", *SERVERS["udpkit"])
    first = start(host, "udpkit", *CLIENTS["udpkit"])
    first.type(b"first\n")
    prints(serving, b"first\n")
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"me, too", ("127.0.0.1", PORT))
        tells(serving, "dropped: 127.0.0.1:")
    converse(first, serving)


def test_a_peer_that_has_gone_leaves_its_place_to_the_next(host: Host) -> None:
    serving = listener(host, "udpkit", *SERVERS["udpkit"])
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.sendto(b"first\n", ("127.0.0.1", PORT))
        prints(serving, b"first\n")
    serving.type(b"too late\n")
    tells(serving, "refused: port unreachable")
    converse(start(host, "udpkit", *CLIENTS["udpkit"]), serving)


@pytest.mark.parametrize("client", ["udpkit", *OTHERS])
def test_with_keep_everybody_is_served_and_the_latest_answered(host: Host, client: str) -> None:
    serving = listener(host, "udpkit", "-k", *SERVERS["udpkit"])
    for _ in range(3):
        asking = start(host, client, *CLIENTS[client])
        converse(asking, serving)
        asking.stop()


def test_the_wildcard_is_dual_stack_unless_told_otherwise(host: Host) -> None:
    for flag, served in (("", {"127.0.0.1", "::1"}), ("-4", {"127.0.0.1"}), ("-6", {"::1"})):
        serving = listener(host, "udpkit", *filter(None, ["-ulk", flag, str(PORT)]))
        for address in ("127.0.0.1", "::1"):
            client = start(host, "udpkit", "-u", address, str(PORT))
            if address in served:
                converse(client, serving)
            else:
                client.type(b"anybody?\n")
                tells(client, "refused")
            client.stop()
        serving.stop()


@pytest.mark.parametrize("server", SERVERS)
def test_a_binary_file_as_stdin_arrives(host: Host, tmp_path: Path, server: str) -> None:
    """From a regular file, which epoll(7) does not know; as much as a receive buffer surely holds."""
    data = os.urandom(4 * CHUNK)
    (tmp_path / "data").write_bytes(data)
    block = ["-b", str(CHUNK)] if server == "socat" else []  # it cuts what is longer than 8 KiB
    serving = listener(host, server, *block, *SERVERS[server])
    host.shell(f"{COMMAND} -uq0 127.0.0.1 {PORT} < {tmp_path}/data")
    prints(serving, data)


def test_of_a_mebibyte_of_stdin_nothing_is_lost_here(host: Host, tmp_path: Path) -> None:
    """UDP has no flow control: what reaches a receiver that is too slow is not in our hands, the rest is."""
    data = os.urandom(1 << 20)
    (tmp_path / "data").write_bytes(data)
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", PORT))
        server.settimeout(SOON)
        sender = host.run("sh", "-c", f"exec {COMMAND} -uq0 127.0.0.1 {PORT} < {tmp_path}/data")
        chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
        received = [server.recv(65535)]
        while received[-1] != chunks[-1] and sender.status is None:
            received.append(server.recv(65535))
        ends(sender, 0)
    names, values = (line.split() for line in host.read("/proc/net/snmp").splitlines() if line[:4] == "Udp:")
    counted = dict(zip(names[1:], map(int, values[1:]), strict=True))
    assert (counted["OutDatagrams"], counted["SndbufErrors"]) == (len(chunks), 0)
    assert received == [chunk for chunk in chunks if chunk in received]


@pytest.mark.parametrize("client", OTHERS)
def test_binary_datagrams_of_others_arrive(host: Host, client: str) -> None:
    data = bytes(range(256)) * 16
    serving = listener(host, "udpkit", *SERVERS["udpkit"])
    start(host, client, *CLIENTS[client]).type(data)
    prints(serving, data)


def test_empty_datagrams_are_taken_and_print_nothing(host: Host) -> None:
    serving = listener(host, "udpkit", *SERVERS["udpkit"])
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SOON)
        client.sendto(b"", ("127.0.0.1", PORT))
        serving.type(b"hello\n")
        assert client.recv(100) == b"hello\n"
        client.sendto(b"end", ("127.0.0.1", PORT))
        prints(serving, b"end")


def test_a_broadcast_needs_its_flag_and_takes_answers_of_everybody() -> None:
    with Lab() as lab:
        a, b = lab.host("a"), lab.host("b")
        lab.link(a, "eth0", b, "eth0")
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")
        serving = listener(b, "udpkit", *SERVERS["udpkit"])
        assert "-b allows" in ends(start(a, "udpkit", "-u", "192.0.2.255", str(PORT)), 2)
        converse(start(a, "udpkit", "-ub", "192.0.2.255", str(PORT)), serving)


def test_source_address_and_port_are_as_asked(host: Host) -> None:
    serving = listener(host, "udpkit", "-v", *SERVERS["udpkit"])
    start(host, "udpkit", "-p", "7777", "-s", "127.0.0.9", *CLIENTS["udpkit"]).type(b"x")
    tells(serving, f"127.0.0.9:7777 asks 127.0.0.1:{PORT}")


def test_lines_are_sent_one_by_one_with_an_interval(host: Host) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(SOON)
        server.bind(("127.0.0.1", PORT))
        start(host, "udpkit", "-i", "10ms", *CLIENTS["udpkit"]).type(b"one\ntwo\nthree")
        assert [server.recv(100) for _ in range(3)] == [b"one\n", b"two\n", b"three"]


def test_it_ends_when_told_to(host: Host) -> None:
    """-w: nothing happened; -q: after stdin; a listener that nobody asks waits on."""
    serving = listener(host, "udpkit", "-w", "0.2", *SERVERS["udpkit"])
    client = start(host, "udpkit", "-q", "0.1", *CLIENTS["udpkit"])
    client.type(b"x")
    client.close_input()
    ends(client, 0)
    prints(serving, b"x")
    ends(serving, 0)
    other = listener(host, "udpkit", *SERVERS["udpkit"])
    ends(start(host, "udpkit", "-w", "0.1", *CLIENTS["udpkit"]), 0)
    other.drain()
    assert other.status is None


def test_without_any_time_what_is_on_stdin_is_sent(host: Host, tmp_path: Path) -> None:
    """`echo … | nc -u -w0`, as logs are sent with nc."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(SOON)
        server.bind(("127.0.0.1", PORT))
        (tmp_path / "message").write_bytes(b"message")
        host.shell(f"{COMMAND} -u -w0 127.0.0.1 {PORT} < {tmp_path}/message")
        assert server.recv(100) == b"message"


def test_a_line_held_back_by_its_interval_is_no_idleness(host: Host) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(SOON)
        server.bind(("127.0.0.1", PORT))
        client = start(host, "udpkit", "-w", "0.3", "-i", "0.6", *CLIENTS["udpkit"])
        client.type(b"one\ntwo\n")
        ends(client, 0)
        assert [server.recv(100) for _ in range(2)] == [b"one\n", b"two\n"]


def test_link_local_peers_talk_by_their_scope() -> None:
    with Lab() as lab:
        a, b = lab.host("a"), lab.host("b")
        lab.link(a, "eth0", b, "eth0")
        a.address("eth0", "fe80::a/64")
        b.address("eth0", "fe80::b/64")
        serving = listener(b, "udpkit", *SERVERS["udpkit"])
        converse(start(a, "udpkit", "-u", "fe80::b%eth0", str(PORT)), serving)


def test_an_ipv4_mapped_address_is_its_ipv4_one(host: Host) -> None:
    serving = listener(host, "udpkit", "-ul", "::ffff:127.0.0.1", str(PORT))
    converse(start(host, "udpkit", "-u", "::ffff:127.0.0.1", str(PORT)), serving)


def test_after_the_end_of_stdin_answers_are_awaited(host: Host) -> None:
    serving = listener(host, "nc.openbsd", *SERVERS["nc.openbsd"])
    client = start(host, "udpkit", *CLIENTS["udpkit"])
    client.type(b"question")
    client.close_input()
    prints(serving, b"question")
    serving.type(b"answer")
    prints(client, b"answer")


def test_json_has_the_news_one_object_a_line(host: Host) -> None:
    client = start(host, "udpkit", "--json", *CLIENTS["udpkit"])
    client.type(b"anybody?\n")
    client.close_input()
    news = [json.loads(line) for line in ends(client, 1).splitlines()]
    assert [one["event"] for one in news] == ["asking", "refused"]
    assert news[1]["peer"] == f"127.0.0.1:{PORT}"
    assert news[1]["said_by"] == "127.0.0.1"


@pytest.mark.parametrize("arguments", [SERVERS["udpkit"], ["-l", str(PORT)]], ids=["UDP", "TCP"])
def test_ctrl_c_ends_it_quietly(host: Host, arguments: list[str]) -> None:
    serving = listener(host, "udpkit", *arguments)
    serving.stop(signal.SIGINT)
    assert ends(serving, 130) == ""


def test_the_port_of_another_is_named(host: Host) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", PORT))
        assert f"port {PORT} is in use; `ss -ulnp` shows" in ends(
            start(host, "udpkit", *SERVERS["udpkit"]), 2
        )


def test_a_closed_stdout_ends_it_quietly(host: Host) -> None:
    shell = host.run("sh", "-c", f"{COMMAND} -ul {PORT} | true; echo ended")
    host.wait_for_port(PORT, timeout=SOON)
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:

        def has_ended() -> bool:
            client.sendto(b"x", ("127.0.0.1", PORT))  # unconnected: it hears of no refusal
            return shell.status is not None

        wait_until(has_ended, [shell], timeout=SOON, what="it did not end", polling=True)
    assert (shell.output, shell.errors) == (b"ended\n", b"")


def test_without_descriptors_it_works_all_the_same(host: Host) -> None:
    """A socket must not take the place of a closed stdin or stdout."""
    shell = host.run("sh", "-c", f"exec {COMMAND} -vul {PORT} <&- >&-")
    host.wait_for_port(PORT, timeout=SOON)
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"four", ("127.0.0.1", PORT))
        tells(shell, "4 bytes from")
