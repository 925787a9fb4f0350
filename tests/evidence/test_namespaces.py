"""Finding network namespaces, and telling containers by their cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from udpkit.evidence import namespaces
from udpkit.evidence.namespaces import Namespace, container_id

ID = "4f" * 32
OTHER = "a0" * 32


@pytest.mark.parametrize(
    ("cgroups", "expected"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"12:pids:/docker/{ID}\n11:cpu:/docker/{ID}\n", ID),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n", ID),
        (f"0::/kubepods/besteffort/pod{'1' * 36}/{ID}\n", ID),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", ID),
        (f"0::/machine.slice/libpod-conmon-{ID}.scope\n", None),
        (f"0::/docker/{OTHER}/docker/{ID}\n", ID),
        ("0::/lxc.payload.web/system.slice/sshd.service\n", "web"),
        ("0::/machine.slice/machine-web.scope/payload\n", "web"),
        ("0::/user.slice/user-1000.slice\n", None),
        ("", None),
    ],
)
def test_containers_by_their_cgroups(cgroups: str, expected: str | None) -> None:
    assert container_id(cgroups) == expected


def test_this_one_is_among_them_and_looked_at_where_we_are() -> None:
    own, *others = namespaces.every()
    assert own == namespaces.own() == Namespace("", "/proc/self/ns/net")
    assert all(one.name for one in others)
    mine = namespaces.of_process(os.getpid())
    inode = Path("/proc/thread-self/ns/net").stat().st_ino
    # Without privilege, too: nothing needs to be entered.
    assert namespaces.inside(mine, lambda: Path("/proc/thread-self/ns/net").stat().st_ino) == inode


def test_two_in_one_container_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name a host's socket table is found again."""
    inodes = {f"/proc/{process}/ns/net": number for number, process in enumerate(("self", 7, 8), start=1)}
    monkeypatch.setattr(namespaces, "NAMED", tmp_path)
    monkeypatch.setattr(namespaces, "_pids", lambda: [7, 8])
    monkeypatch.setattr(namespaces, "_inode", inodes.__getitem__)
    monkeypatch.setattr(namespaces, "_comm", lambda _: "nc")
    monkeypatch.setattr(namespaces, "container", lambda _: "web")
    assert [one.name for one in namespaces.every()] == ["", "web", "the namespace of nc[8]"]


def test_a_container_by_the_name_that_an_engine_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tmp_path / "docker"
    engine.write_text(
        f'#!/bin/sh\n[ "$*" = "inspect --format {{{{.State.Pid}}}} web" ] && echo {os.getpid()}\n'
    )
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert namespaces.of_container("web").path == f"/proc/{os.getpid()}/ns/net"
    with pytest.raises(LookupError, match="no container called nosuch"):
        namespaces.of_container("nosuch")
