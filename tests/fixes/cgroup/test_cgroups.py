"""Which cgroup is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fixes.cgroup.conftest import as_root
from udpkit.fixes.cgroup import cgroups

TREE = [
    "system.slice/dns.service",
    "system.slice/docker-1234.scope/system.slice/dns.service",
    "user.slice/user-1000.slice/user@1000.service/app.slice/dns.service",
    "user.slice/user-1000.slice/user@1000.service/app.slice/chat.service",
    "user.slice/user-1001.slice/user@1001.service/app.slice/chat.service",
    "user.slice/user-1001.slice/user@1001.service/app.slice/game.service",
    "system.slice/system-vpn.slice/vpn@a\\x2db.service",
]


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("dns", TREE[0]),
        ("dns.service", TREE[0]),
        ("game", TREE[5]),
        ("vpn@a\\x2db", TREE[6]),
        ("docker-1234.scope", "system.slice/docker-1234.scope"),
        ("user-1000.slice", "user.slice/user-1000.slice"),
    ],
)
def test_a_unit_of_the_hosts_manager_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, path: str
) -> None:
    for one in TREE:
        (tmp_path / one).mkdir(parents=True)
    monkeypatch.setattr(cgroups, "mount", lambda: tmp_path)
    assert cgroups.of_unit(unit) == tmp_path / path
    with pytest.raises(LookupError, match="2 units are called chat, say which with --cgroup"):
        cgroups.of_unit("chat")


def test_a_folder_may_be_called_by_any_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, elsewhere = tmp_path / "unified", tmp_path / "cpu"
    for folder in (root / "a" / "b", elsewhere):
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").touch()
    (tmp_path / "link").symlink_to(root / "a" / "b")
    monkeypatch.setattr(cgroups, "mount", lambda: root)
    monkeypatch.chdir(root / "a" / "b")
    for name in (".", "../b", "/a/b", "a/b/", "/a/../a/b", f"{root}/a/b", f"{tmp_path}/link"):
        assert cgroups.by_path(name) == root / "a" / "b"
    for name in (str(elsewhere), "/../cpu", "/c"):  # one of version 1 is none
        with pytest.raises(LookupError, match="there is no cgroup"):
            cgroups.by_path(name)


@as_root
def test_cgroups_of_those_who_have_ended_go_those_within_them_first(cgroup: Path) -> None:
    ended = os.posix_spawn("/bin/true", ["true"], {})
    outer = cgroup / f"{cgroups.PREFIX}{ended}"
    lives, kept = cgroup / f"{cgroups.PREFIX}{os.getpid()}", outer.with_name(f"{outer.name}0000000")
    for path in (outer, outer / outer.name, lives, kept):
        path.mkdir()
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)  # nobody has waited for it, as in many containers
    try:
        cgroups.sweep({kept.stat().st_ino})
        assert {path for path in cgroup.iterdir() if path.is_dir()} == {lives, kept}
    finally:
        os.waitpid(ended, 0)
        for path in (lives, kept):
            path.rmdir()


@as_root
def test_among_threads_is_no_place_for_a_program(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threaded = cgroup / "threaded"
    threaded.mkdir()
    try:
        (threaded / "cgroup.type").write_text("threaded")
        monkeypatch.setattr(cgroups, "of_process", lambda _: cgroup)
        with pytest.raises(cgroups.NoCgroups, match="has threads of one program"):
            cgroups.make()
        assert [path.name for path in cgroup.iterdir() if path.is_dir()] == ["threaded"]
    finally:
        threaded.rmdir()
