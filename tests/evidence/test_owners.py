import os
import socket
from pathlib import Path

from udpkit.evidence import socket_owners


def process(proc: Path, number: str, comm: bytes, *targets: str) -> Path:
    folder = proc / number
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_bytes(comm + b"\n")
    for descriptor, target in enumerate(targets):
        (folder / "fd" / str(descriptor)).symlink_to(target)
    return folder


def test_every_socket_of_every_process_has_its_owner(tmp_path):
    process(tmp_path, "1", b"init", "/dev/null", "pipe:[7]")
    process(tmp_path, "20", b"nc", "socket:[100]", "anon_inode:[eventpoll]", "socket:[101]")
    process(tmp_path, "30", b"my server", "socket:[102]")
    process(tmp_path, "self", b"not a number", "socket:[103]")
    assert socket_owners(tmp_path) == {100: "nc", 101: "nc", 102: "my server"}


def test_a_process_that_is_gone_or_not_ours_is_passed_over(tmp_path):
    (tmp_path / "10").mkdir()
    (process(tmp_path, "11", b"half gone") / "fd").rmdir()
    process(tmp_path, "12", b"nc", "socket:[100]")
    assert socket_owners(tmp_path) == {100: "nc"}


def test_a_descriptor_closed_meanwhile_does_not_hide_the_others(tmp_path):
    folder = process(tmp_path, "10", b"busy", *(f"socket:[{inode}]" for inode in range(20)))
    for closed in range(20, 40):
        (folder / "fd" / str(closed)).touch()  # no link: readlink() fails, as after close()
    assert socket_owners(tmp_path) == dict.fromkeys(range(20), "busy")


def test_a_name_that_is_no_utf8_is_told_as_well_as_it_can_be(tmp_path):
    process(tmp_path, "10", "服务器服务器".encode()[:15] + b"\xff", "socket:[1]")  # the kernel cuts bytes
    assert socket_owners(tmp_path) == {1: "服务器服务\N{REPLACEMENT CHARACTER}"}


def test_this_process_owns_its_own_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        name = Path("/proc/self/comm").read_text().strip()
        assert socket_owners()[os.fstat(ours.fileno()).st_ino] == name
