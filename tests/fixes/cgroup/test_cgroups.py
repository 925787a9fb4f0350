"""Which cgroup is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

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
