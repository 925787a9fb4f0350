"""What ncat's own test suite asks of UDP (ncat/test/ncat-test.pl), of `udpkit nc` beside ncat.

Which flags the suite uses and we do not have: --exec and its kin, --output (a shell's `>`), --max-conns, a
default port.
"""

from __future__ import annotations

import pytest

from udpkit.lab import Host

from .talking import PORT, ends, listener, prints, start, tells

SIDES = [("udpkit", "ncat"), ("ncat", "udpkit"), ("udpkit", "udpkit")]
"""Who serves, who asks."""


@pytest.mark.parametrize(("server", "client"), SIDES)
@pytest.mark.parametrize(("flags", "address"), [([], "127.0.0.1"), (["-4"], "127.0.0.1"), (["-6"], "::1")])
def test_default_listen_address(host: Host, server: str, client: str, flags: list[str], address: str) -> None:
    serving = listener(host, server, "--udp", "-l", *flags, str(PORT))
    asking = start(host, client, address, str(PORT), "--udp")
    asking.type(b"abc\n")
    prints(serving, b"abc\n")


@pytest.mark.parametrize("client", ["ncat", "udpkit"])
@pytest.mark.parametrize(("flag", "address"), [("-6", "127.0.0.1"), ("-4", "::1")])
def test_the_other_family_is_not_served(host: Host, client: str, flag: str, address: str) -> None:
    serving = listener(host, "udpkit", "--udp", "-l", flag, str(PORT))
    asking = start(host, client, "--udp", address, str(PORT))
    asking.type(b"abc\n")
    tells(asking, "refused")
    serving.drain()
    assert serving.output == b""


@pytest.mark.parametrize("client", ["ncat", "udpkit"])
def test_keep_open_serves_a_second_client(host: Host, client: str) -> None:
    """ncat has this for programs that it runs only."""
    serving = listener(host, "udpkit", "-l", "--keep-open", "--udp", str(PORT))
    for line in (b"first\n", b"second\n"):
        start(host, client, "--udp", "127.0.0.1", str(PORT)).type(line)
        prints(serving, line)
        serving.output.clear()


@pytest.mark.parametrize(("server", "client"), SIDES)
def test_c_translates_what_is_sent(host: Host, server: str, client: str) -> None:
    """Both sides with -C; a carriage return that is there is not doubled, not even across reads."""
    serving = listener(host, server, "-ulC", str(PORT))
    asking = start(host, client, "-uC", "127.0.0.1", str(PORT))
    for sender, receiver in ((asking, serving), (serving, asking)):
        receiver.output.clear()
        sent = b""
        for typed, seen in (
            (b"\na\nb\n", b"\r\na\r\nb\r\n"),
            (b"---", b"---"),
            (b"\r\nc\r\n", b"\r\nc\r\n"),
            (b"e\n\nf\n", b"e\r\n\r\nf\r\n"),
            (b"---\r", b"---\r"),
            (b"\n", b"\n"),
        ):
            sender.type(typed)
            sent += seen
            prints(receiver, sent)


@pytest.mark.parametrize("client", ["ncat", "udpkit"])
def test_c_of_a_listener_leaves_what_arrives_alone(host: Host, client: str) -> None:
    serving = listener(host, "udpkit", "-ulC", str(PORT))
    start(host, client, "-u", "127.0.0.1", str(PORT)).type(b"\na\r\nb\n")
    prints(serving, b"\na\r\nb\n")


@pytest.mark.parametrize("server", ["ncat", "udpkit"])
def test_idle_timeout_of_a_client(host: Host, server: str) -> None:
    serving = listener(host, server, "-ul", str(PORT))
    asking = start(host, "udpkit", "-u", "-w", "300ms", "127.0.0.1", str(PORT))
    asking.type(b"abc\n")
    prints(serving, b"abc\n")
    ends(asking, 0)


@pytest.mark.parametrize("client", ["ncat", "udpkit"])
def test_idle_timeout_of_a_listener(host: Host, client: str) -> None:
    serving = listener(host, "udpkit", "-ul", "-w", "300ms", str(PORT))
    start(host, client, "-u", "127.0.0.1", str(PORT)).type(b"abc\n")
    prints(serving, b"abc\n")
    ends(serving, 0)


@pytest.mark.parametrize("server", ["ncat", "udpkit"])
def test_send_only_client(host: Host, server: str) -> None:
    serving = listener(host, server, "-ul", str(PORT))
    asking = start(host, "udpkit", "-u", "--send-only", "127.0.0.1", str(PORT))
    asking.type(b"abc\n")
    prints(serving, b"abc\n")
    serving.type(b"def\n")
    asking.close_input()
    ends(asking, 0)
    assert asking.output == b""


@pytest.mark.parametrize("client", ["ncat", "udpkit"])
def test_send_only_listener(host: Host, client: str) -> None:
    serving = listener(host, "udpkit", "-ul", "--send-only", str(PORT))
    asking = start(host, client, "-u", "127.0.0.1", str(PORT))
    asking.type(b"abc\n")
    serving.type(b"def\n")
    prints(asking, b"def\n")
    serving.drain()
    assert serving.output == b""


@pytest.mark.parametrize("client", ["ncat", "udpkit"])
def test_recv_only_listener(host: Host, client: str) -> None:
    serving = listener(host, "udpkit", "-ul", "--recv-only", str(PORT))
    asking = start(host, client, "-u", "127.0.0.1", str(PORT))
    serving.type(b"not sent\n")
    asking.type(b"abc\n")
    prints(serving, b"abc\n")
    asking.type(b"def\n")
    prints(serving, b"abc\ndef\n")
    asking.drain()
    assert asking.output == b""


@pytest.mark.parametrize("arguments", [["-u", "127.0.0.1", str(PORT), "--baffle"], ["-ul", "--baffle"]])
def test_a_wrong_flag_is_exit_code_2(host: Host, arguments: list[str]) -> None:
    ends(start(host, "udpkit", *arguments), 2)
