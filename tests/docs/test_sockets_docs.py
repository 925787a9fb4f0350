"""The sockets' guide: its programs run as they stand there. The API reference: it is what the sources say."""

from __future__ import annotations

import errno
import importlib.util
import inspect
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import griffe
import pytest

import udpkit
from udpkit.kernel.icmp import KINDS
from udpkit.lab import CommandFailed, Host, Lab, Program, wait_until
from udpkit.sockets.errors import EXCEPTIONS, LOCAL_KINDS, NetworkError

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "sockets.md").read_text()
REFERENCE = (ROOT / "docs" / "sockets-api.md").read_text()
GENERATOR = ROOT / "tools" / "api_reference.py"

PORT = 5300
ASKED = "127.0.0.2"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


def by_name(programs: list[str]) -> dict[str, str]:
    """Each begins with a comment that names it."""
    return {program.split()[1]: program for program in programs}


PROGRAMS = by_name(blocks("python"))

BEFORE = {
    "socket": """
import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 5300))
while True:
    data, peer = server.recvfrom(65535)
    server.sendto(data.upper(), peer)
""",
    "asyncio": """
import asyncio

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data.upper(), addr)

async def main():
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, local_addr=("0.0.0.0", 5300))
    await asyncio.Event().wait()  # for ever

asyncio.run(main())
""",
    "socketserver": """
import socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data.upper(), self.client_address)

class Server(socketserver.ThreadingUDPServer):
    daemon_threads = True

with Server(("0.0.0.0", 5300), Echo) as server:
    server.serve_forever()
""",
}
"""Programs that exist. The guide says which line to change."""

BEFORE["uvloop"] = BEFORE["asyncio"].replace("asyncio.run", "__import__('uvloop').run")

CHANGES = {
    name: (instead_of, write)
    for names, instead_of, write in re.findall(
        r"^\| ([a-z, ]+) \| `(.*)` \| `(udpkit.*|class.*)` \|$", GUIDE, re.MULTILINE
    )
    for name in names.split(", ")
}
AFTER = {name: "import udpkit\n" + program.replace(*CHANGES[name]) for name, program in BEFORE.items()}

ON_BOTH_FAMILIES = {
    f"{name}, on ::": program.replace('"0.0.0.0"', '"::"').replace("AF_INET,", "AF_INET6,")
    for name, program in AFTER.items()
}
ON_BOTH_FAMILIES["socketserver, on ::"] = ON_BOTH_FAMILIES["socketserver, on ::"].replace(
    "daemon_threads = True", f"daemon_threads = True; address_family = {socket.AF_INET6:d}"
)

ECHOES = {
    name: PROGRAMS[name]
    for name in (
        "server.py",
        "logging_server.py",
        "selectors_server.py",
        "async_server.py",
        "transfer_server.py",
    )
}
ECHOES |= AFTER | ON_BOTH_FAMILIES
"""Servers that answer HELLO."""

ASYNC = PROGRAMS["async_server.py"]
ECHOES["async_server.py, opened in a thread"] = ASYNC.replace("AsyncSocket(", "await AsyncSocket.open(")
ECHOES["async_server.py, on trio"] = ASYNC.replace("import asyncio", "import trio").replace(
    "asyncio.run(main())", "trio.run(main)"
)
ECHOES["async_server.py, on uvloop"] = ASYNC.replace("import asyncio", "import uvloop").replace(
    "asyncio.run(main())", "uvloop.run(main())"
)

OTHERS = {"ask.py", "client.py", "ask_many.py", "group_server.py", "workers.py", "path_mtu.py"}
"""Programs that have a test of their own."""


@pytest.fixture
def host() -> Iterator[Host]:
    """A host for itself, so that port 5300 is free."""
    with Lab() as lab:
        yield lab.host("host")


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """A server and a client on one cable."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.link(client, "eth0", server, "eth0")
        server.address("eth0", "192.0.2.1/24")
        client.address("eth0", "192.0.2.2/24")
        yield server, client


@pytest.fixture
def ask(host: Host) -> Iterator[socket.socket]:
    """A plain socket on the host, not connected: it hears an answer from wherever it comes."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
        ask.settimeout(5)
        yield ask


def start(host: Host, program: str) -> Program:
    return host.run(sys.executable, "-c", program)


def serve(host: Host, program: str) -> Program:
    started = start(host, program)
    host.wait_for_port(PORT, started)
    return started


def output(host: Host, program: str) -> str:
    """What a program prints, from its start to its end."""
    started = start(host, program)
    assert (started.wait(), started.errors.decode()) == (0, "")
    return started.output.decode()


DEAF = """
import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.connect(("127.0.0.9", 9))
    client.sendto(b"hello", ("127.0.0.2", 5300))
"""
"""A client whose kernel refuses the answer, since it is connected to somebody else."""


def masked(text: str) -> str:
    """Without what differs from run to run: the client's port, a process, nanoseconds."""
    return re.sub(r"(?<=:)\d{5}\b|\b\d+(?=: ttl| ns)", "*", text)


def shown(name: str) -> str:
    """What the guide says that a program prints: in a block of its own, or up to the next block."""
    text = GUIDE.partition(f"# {name}\n")[2].partition("```\n")[2]
    if block := re.search(rf"^\$ \.venv/bin/python {re.escape(name)}\n((?:[^`].*\n)*)", text, re.MULTILINE):
        return masked(block[1])
    return masked("".join(f"{line}\n" for line in re.findall(r"`([^`]*)`", text.partition("```")[0])))


def assert_shown(printed: str, name: str) -> None:
    lines = masked(printed).splitlines()
    assert lines
    assert [line for line in lines if line not in shown(name).splitlines()] == []


def test_every_program_of_the_guide_is_run() -> None:
    assert set(PROGRAMS) == {name for name in ECHOES if name in PROGRAMS} | OTHERS
    assert len(PROGRAMS) == len(blocks("python"))
    assert set(CHANGES) == set(BEFORE)
    assert all('"::"' in program for program in ON_BOTH_FAMILIES.values())


@pytest.mark.parametrize("name", ECHOES)
@pytest.mark.parametrize("asked", ["127.0.0.1", ASKED])
def test_every_server_answers_from_the_address_that_was_asked(
    host: Host, ask: socket.socket, name: str, asked: str
) -> None:
    serve(host, ECHOES[name])
    ask.sendto(b"hello", (asked, PORT))
    answer, (address, port) = ask.recvfrom(100)
    assert (answer, address) == (b"HELLO", asked)
    assert (port == PORT) is (name != "transfer_server.py")


@pytest.mark.parametrize("name", ECHOES)
def test_no_refused_answer_ends_a_server(host: Host, ask: socket.socket, name: str) -> None:
    serve(host, ECHOES[name])
    for _ in range(3):
        assert output(host, DEAF) == ""
        ask.sendto(b"hello", (ASKED, PORT))
        assert ask.recvfrom(100)[0] == b"HELLO"


@pytest.mark.parametrize("name", BEFORE)
def test_a_program_that_exists_has_the_fault_and_the_line_that_is_changed(
    host: Host, ask: socket.socket, name: str
) -> None:
    """That it is right then: test_every_server_answers_from_the_address_that_was_asked."""
    instead_of, _ = CHANGES[name]
    assert BEFORE[name].count(instead_of) == 1
    serve(host, BEFORE[name])
    ask.sendto(b"hello", (ASKED, PORT))
    assert ask.recvfrom(100) == (b"HELLO", ("127.0.0.1", PORT))


def test_a_plain_client_hears_a_plain_server_only_after_the_changed_line(host: Host) -> None:
    before = serve(host, BEFORE["socket"])
    asking = start(host, PROGRAMS["ask.py"])
    assert asking.wait() == 1
    assert asking.errors.decode().splitlines()[-1] == "TimeoutError: timed out"
    assert "`TimeoutError: timed out`" in GUIDE
    before.stop()
    serve(host, AFTER["socket"])
    assert output(host, PROGRAMS["ask.py"]) == "b'HELLO'\n"
    assert GUIDE.count("prints `b'HELLO'`") == 3


HANDED_OVER_LATE = BEFORE["asyncio"].replace(
    'await loop.create_datagram_endpoint(Echo, local_addr=("0.0.0.0", 5300))',
    """import select, socket, udpkit
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 5300))
    select.select([sock], [], [])  # until there is a datagram
    await udpkit.create_datagram_endpoint(Echo, sock=sock)""",
)


@pytest.mark.parametrize(
    ("kind", "answers_from"), [("socket.socket", "127.0.0.1"), ("udpkit.PacketInfoSocket", ASKED)]
)
def test_what_arrives_before_a_socket_is_handed_over(
    host: Host, ask: socket.socket, kind: str, answers_from: str
) -> None:
    serve(host, HANDED_OVER_LATE.replace("socket.socket(", f"{kind}("))
    for source in answers_from, ASKED:
        ask.sendto(b"hello", (ASKED, PORT))
        assert ask.recvfrom(100) == (b"HELLO", (source, PORT))


def test_a_client_hears_the_answer_the_refusal_and_the_silence(host: Host, ask: socket.socket) -> None:
    client = PROGRAMS["client.py"]
    refused = output(host, client)
    assert refused.startswith("nobody listens: ")
    assert_shown(refused, "client.py")
    server = serve(host, PROGRAMS["server.py"])
    assert output(host, client) == "b'HELLO'\n"
    server.stop()
    ask.bind((ASKED, PORT))  # and says nothing
    assert output(host, client) == "no answer to three questions\n"
    assert [ask.recv(100) for _ in range(3)] == [b"hello"] * 3


def test_a_client_of_many_hears_who_refused(host: Host) -> None:
    serve(host, PROGRAMS["server.py"])
    printed = output(host, PROGRAMS["ask_many.py"])
    assert sorted(printed.splitlines()) == sorted(shown("ask_many.py").splitlines())


def test_a_client_of_many_hears_a_transfer_from_its_port_and_a_connected_one_does_not(host: Host) -> None:
    serve(host, PROGRAMS["transfer_server.py"])
    printed = output(host, PROGRAMS["ask_many.py"])
    [port] = re.findall(r"^b'HELLO' from 127\.0\.0\.2:(\d+)$", printed, re.MULTILINE)
    assert int(port) != PORT
    asking = start(host, PROGRAMS["ask.py"])
    assert asking.wait() == 1
    assert asking.errors.decode().splitlines()[-1] == "TimeoutError: timed out"


def test_a_server_logs_which_answer_was_refused(host: Host) -> None:
    server = serve(host, PROGRAMS["logging_server.py"])
    output(host, DEAF)
    wait_until(lambda: server.output, [server], timeout=5, what="nothing was logged")
    assert_shown(server.output.decode(), "logging_server.py")


def test_several_processes_share_a_port(host: Host, tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text(PROGRAMS["workers.py"])  # multiprocessing may want to read it again
    parent = host.run(sys.executable, str(tmp_path / "workers.py"))
    workers = os.cpu_count() or 1
    wait_until(
        lambda: len(host.udp_sockets().entries) == workers,
        [parent],
        timeout=10,
        what="not every worker started",
        polling=True,
    )
    processes = set()
    for _ in range(64):  # the odds that one process of two gets all of them: 1 to 2 ** 63
        with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
            ask.settimeout(5)
            ask.sendto(b"hello", (ASKED, PORT))
            answer, address = ask.recvfrom(100)
            assert address == (ASKED, PORT)
            processes.add(answer.split(b":")[0])
    assert min(workers, 2) <= len(processes) <= workers
    assert_shown(output(host, PROGRAMS["ask.py"]), "workers.py")


UNREAD = """
import socket, sys
from udpkit import Socket

with Socket("0.0.0.0", 5300, reuse_port=True), Socket("0.0.0.0", 5300, reuse_port=True, timeout=0.1) as read:
    for _ in range(64):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
            ask.sendto(b"hello", ("127.0.0.2", 5300))
    received = 0
    while requests := read.recv_many():
        received += len(requests)
    print(0 < received < 64)
"""


def test_a_socket_that_nobody_reads_gets_its_share_of_the_port(host: Host) -> None:
    assert output(host, UNREAD) == "True\n"


STOPPED = """
import errno, threading
from udpkit import Socket

stop, turn = threading.Event(), threading.Event()

def serve(server):
    while not stop.is_set():
        requests = server.recv_many()
        turn.set()

with Socket("0.0.0.0", 5300, timeout=0.05) as server:
    thread = threading.Thread(target=serve, args=[server])
    thread.start()
    turn.wait()
    stop.set()
    thread.join()
try:
    server.recv()
except OSError as error:
    print(errno.errorcode[error.errno])
"""
"""What the guide says in a sentence."""


def test_a_thread_that_serves_is_stopped_by_a_flag(host: Host) -> None:
    assert output(host, STOPPED) == "EBADF\n"
    for line in "while not stop.is_set():", "requests = server.recv_many()":
        assert line in STOPPED
        assert line in GUIDE


def serve_group(host: Host, address: str, group: str) -> Program:
    """The guide's server once it has joined: that is after its port is open."""
    program = PROGRAMS["group_server.py"].replace('"0.0.0.0"', f'"{address}"').replace("239.1.2.3", group)
    server = serve(host, program)
    users = 2 if group == "224.0.0.1" else 1  # every host has joined 224.0.0.1
    joined = f"{int.from_bytes(socket.inet_aton(group), sys.byteorder):08X} {users:5}"
    wait_until(
        lambda: joined in host.shell("cat /proc/net/igmp"),
        [server],
        timeout=5,
        what=f"{group} was not joined",
        polling=True,
    )
    return server


@pytest.mark.parametrize(
    ("address", "joined", "group"),
    [
        ("0.0.0.0", "239.1.2.3", "239.1.2.3"),
        ("", "239.1.2.3", "239.1.2.3"),
        ("", "224.0.0.1", "224.0.0.1"),
        ("0.0.0.0", "239.1.2.3", "224.0.0.1"),
    ],
)
def test_a_group_is_answered_from_the_hosts_own_address(
    hosts: tuple[Host, Host], address: str, joined: str, group: str
) -> None:
    server = serve_group(hosts[0], address, joined)
    with hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
        ask.settimeout(5)
        ask.bind(("192.0.2.2", 0))
        ask.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.2"))
        ask.sendto(b"hello", (group, PORT))
        assert ask.recvfrom(100) == (b"HELLO", ("192.0.2.1", PORT))
    wait_until(lambda: server.output.endswith(b"\n"), [server], timeout=5, what="nothing was printed")
    assert_shown(server.output.decode().replace(group, "239.1.2.3"), "group_server.py")


def test_a_socket_for_both_families_does_not_hear_all_hosts(hosts: tuple[Host, Host]) -> None:
    server = serve_group(hosts[0], "", "239.1.2.3")
    with hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
        ask.settimeout(5)
        ask.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.2"))
        for address in "224.0.0.1", "192.0.2.1":
            ask.sendto(b"hello", (address, PORT))
        assert ask.recvfrom(100) == (b"HELLO", ("192.0.2.1", PORT))
    wait_until(lambda: server.output.endswith(b"\n"), [server], timeout=5, what="nothing was printed")
    assert [line.split()[2] for line in server.output.decode().splitlines()] == ["192.0.2.1:5300,"]


def test_too_big_a_datagram_is_an_error_with_the_paths_mtu(hosts: tuple[Host, Host]) -> None:
    assert output(hosts[1], PROGRAMS["path_mtu.py"]) == shown("path_mtu.py")


def test_every_output_in_a_block_is_compared() -> None:
    """The others are named where they are compared."""
    assert re.findall(r"^\$ (.*)", "".join(blocks("console")), re.MULTILINE) == [
        ".venv/bin/python ask_many.py"
    ]


TWENTY = """
import socket, sys
from udpkit import Socket

peer, data = (sys.argv[1], 9), bytes(int(sys.argv[2]))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, Socket("0.0.0.0") as ours:
    for send in plain.sendto, ours.send:
        try:
            for _ in range(20):
                send(data, peer)
            print("nothing")
        except OSError as error:
            print(error.errno, error.report.kind if send == ours.send else "")
"""
"""Sends to a peer, with a plain socket and with one of ours, and prints what each is told."""

LOCAL_ERRORS = {
    "no route": ("true", "198.51.100.1", 1400),
    "too big": ("true", "192.0.2.2", 65_508),
    "queue full": ("tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 limit 1600", "192.0.2.2", 1400),
}
"""What is done to the host first, the peer, bytes of payload."""


@pytest.mark.parametrize("kind", LOCAL_ERRORS)
def test_what_a_plain_socket_hears_of_this_hosts_errors(hosts: tuple[Host, Host], kind: str) -> None:
    command, peer, size = LOCAL_ERRORS[kind]
    [(name, heard)] = re.findall(
        rf"^\| `{kind}` \| this host \| (E\w+)[^|]* \|.*\| (\w+) \|$", GUIDE, re.MULTILINE
    )
    try:
        hosts[0].shell(command)
    except CommandFailed as error:
        pytest.skip(f"no queue that can be full: {error}")
    with hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("192.0.2.2", 9))  # so that nothing is refused
        sending = hosts[0].run(sys.executable, "-c", TWENTY, peer, str(size))
        assert (sending.wait(), sending.errors.decode()) == (0, "")
    number = getattr(errno, name)
    plain = f"{number} " if heard == "always" else "nothing"
    assert sending.output.decode() == f"{plain}\n{number} {kind}\n"


def test_a_type_checker_takes_every_program(tmp_path: Path) -> None:
    """Those that existed have no annotations."""
    lenient = "# mypy: allow-untyped-defs, allow-untyped-calls\n"
    programs = PROGRAMS | {f"after_{name}.py": lenient + program for name, program in AFTER.items()}
    for name, program in programs.items():
        (tmp_path / name).write_text(program)
    options = ["--config-file=", "--strict", "--scripts-are-modules"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *(tmp_path / name for name in programs)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "src")},
    )
    assert (checked.stdout[:7], checked.returncode) == ("Success", 0), checked.stdout + checked.stderr


SAID_BY = {"ICMP": 4, "ICMPv6": 6}
HEARD = {True: "if connected", False: "never"}


def test_the_table_of_errors_is_what_the_kernel_tells() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (.*) \| (E[A-Z, ]+) \| `(\w+)` \| (.*) \|$", GUIDE, re.MULTILINE)
    assert len(rows) == 18
    assert {kinds for kinds, by, *_ in rows if by == "this host"} == {
        f"`{one}`" for one in LOCAL_KINDS.values()
    }
    for kinds, said_by, names, raises, heard in rows:
        numbers = {getattr(errno, name) for name in names.split(", ")}
        assert {EXCEPTIONS.get(number, NetworkError).__name__ for number in numbers} == {raises}, kinds
        for kind in re.findall(r"`(.*?)`", kinds):
            if said_by == "this host":
                assert numbers == {number for number, its_kind in LOCAL_KINDS.items() if its_kind == kind}
                assert heard == ("never" if kind == "queue full" else "always")
            for version in [SAID_BY[by] for by in said_by.split(", ") if by in SAID_BY]:
                assert (numbers, heard) in [
                    ({entry.errno}, HEARD[entry.hard])
                    for (its_version, _, _), entry in KINDS.items()
                    if (its_version, entry.name) == (version, kind)
                ], kind


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_reference", GENERATOR)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_sources_say() -> None:
    printed = subprocess.run([sys.executable, GENERATOR], capture_output=True, text=True, check=True).stdout
    assert printed == REFERENCE, "run: make docs"


def public_members() -> Iterator[str]:
    """`Socket`, `Socket.recv`, …: asked of the classes themselves."""
    for name in udpkit.__all__:
        yield name
        value = getattr(udpkit, name)
        if inspect.isclass(value):
            ours = [base for base in value.__mro__ if base.__module__.startswith("udpkit")]
            for base in ours:
                yield from (f"{name}.{member}" for member in vars(base) if not member.startswith("_"))


def test_the_reference_has_every_public_name() -> None:
    headings = re.findall(r"^#{3,4} (.*)$", REFERENCE, re.MULTILINE)
    attributes = re.findall(r"^- `(\w+)(?::.*)?`$", REFERENCE, re.MULTILINE)
    missing = [
        name
        for name in public_members()
        if name not in headings and not {name.rpartition(".")[2]} & {*headings, *attributes}
    ]
    assert missing == []


def test_the_reference_says_something_of_every_name() -> None:
    """A heading and a signature are followed by a sentence."""
    parts = re.split(r"^(#{3,4} .*)$", REFERENCE, flags=re.MULTILINE)[1:]
    silent = [
        heading
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
        if not re.sub(r"```.*?```|^Source:.*", "", text, flags=re.DOTALL | re.MULTILINE).strip()
    ]
    assert silent == []


@pytest.mark.parametrize(
    "member",
    [
        "def told(self): ...",
        "async def told(self): ...",
        "@property\n    def told(self) -> int: ...",
        "told: int",
    ],
)
def test_the_generator_refuses_what_has_no_docstring(generator: ModuleType, member: str) -> None:
    code = f'class Thing:\n    """It."""\n\n    {member}\n'
    with (
        griffe.temporary_visited_module(code, module_name="module") as module,
        pytest.raises(SystemExit, match=r"no docstring: module\.Thing\.told"),
    ):
        list(generator.entry(module["Thing"]))


LINKS: Callable[[str], list[str]] = re.compile(r"\]\((?!https?:)([^)]*)\)").findall


@pytest.mark.parametrize("text", [GUIDE, REFERENCE], ids=["guide", "reference"])
def test_every_link_leads_somewhere(text: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for link in LINKS(text):
        path, _, anchor = link.partition("#")
        assert (ROOT / "docs" / path).exists(), link
        assert not anchor or anchor in headings, link
