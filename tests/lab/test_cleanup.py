"""Nothing is left behind: not after success, failure, an exit in the middle, or SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pytest
from processes import descendants, parents

from udpkit.lab import Lab, LabError, LabUnavailable, wait_until
from udpkit.lab.control import Control, why_unavailable

OUR_NAMESPACE = str(Path("/proc/self/ns/net").readlink())

OWNER = """
import sys
from udpkit.lab import Lab
lab = Lab()
a, b = lab.host("a"), lab.host("b")
lab.link(a, "eth0", b, "eth0")
a.run("sleep", "1000")
a.run("sh", "-c", "setsid sleep 1000 & sleep 1000")
b.run("nc", "-ul", "56789")
b.wait_for_port(56789)
print("ready", flush=True)
"""


def namespaces_of(pids: Iterable[int]) -> dict[str, Path]:
    """The network namespaces in which processes are, or which they hold open, each with a way to it."""
    found = {}
    for pid in pids:
        for link in [Path(f"/proc/{pid}/ns/net"), *_listing(Path(f"/proc/{pid}/fd"))]:
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("net:"):
                found[target] = link
    return found


def held(pids: Iterable[int]) -> dict[str, IO[str]]:
    """Their network namespaces, opened: as long as we hold one, no new one gets its number."""
    opened = {}
    for name, way in namespaces_of(pids).items():
        if name != OUR_NAMESPACE:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                opened[name] = way.open()
    return opened


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def start_owner(then: str, cwd: Path) -> tuple[subprocess.Popen[str], set[int], dict[str, IO[str]]]:
    """Start a process that owns a lab; returns it with the lab's processes and namespaces."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER + then],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    tree = {owner.pid} | descendants(owner.pid)
    inside = held(tree)
    assert len(tree) >= 6
    assert len(inside) == 2
    return owner, tree - {owner.pid}, inside


def assert_gone(pids: set[int], namespaces: dict[str, IO[str]]) -> None:
    def is_gone() -> bool:
        others = parents().keys() - {os.getpid()}
        return not pids & others and not namespaces.keys() & namespaces_of(others).keys()

    wait_until(is_gone, timeout=10, what="processes or namespaces of the lab are still there", polling=True)
    for namespace in namespaces.values():
        namespace.close()


ENDINGS = {
    "it closes the lab": "lab.close()",
    "it just ends": "",
    "it raises": "raise SystemExit(7)",
    "it ends without clean-up": "import os; os._exit(0)",
}


@pytest.mark.parametrize("then", ENDINGS.values(), ids=ENDINGS.keys())
def test_when_its_owner_ends_everything_is_gone(then: str, tmp_path: Path) -> None:
    owner, pids, namespaces = start_owner(f"\nsys.stdin.read()\n{then}", tmp_path)
    owner.communicate()
    assert_gone(pids, namespaces)
    assert list(tmp_path.iterdir()) == []


def test_when_its_owner_is_killed_everything_is_gone(tmp_path: Path) -> None:
    links = Path("/proc/net/dev").read_text().count("\n")
    owner, pids, namespaces = start_owner("\nsys.stdin.read()", tmp_path)
    owner.kill()
    assert owner.wait() == -signal.SIGKILL
    assert_gone(pids, namespaces)
    assert Path("/proc/net/dev").read_text().count("\n") == links
    assert list(tmp_path.iterdir()) == []
    owner.communicate()


@pytest.mark.parametrize("packets", [0, 2, 5])
def test_the_story_killed_in_the_middle_leaves_nothing(packets: int, tmp_path: Path) -> None:
    """`packets`: how many children it has had started by then, so that it dies at different places."""
    command = [str(Path(sys.executable).with_name("udpkit")), "lab"]
    before = set(Path("/run").iterdir()) | set(Path("/tmp").iterdir())  # noqa: S108
    story = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    seen: set[int] = set()

    def has_got_there() -> bool:
        seen.update(descendants(story.pid))
        return len(seen) > 1 + packets or story.poll() is not None

    wait_until(has_got_there, timeout=20, what="the story did not start", polling=True)
    seen |= descendants(story.pid)
    namespaces = held(seen)
    story.kill()
    assert story.wait() == -signal.SIGKILL
    assert_gone(seen - {story.pid}, namespaces)
    assert list(tmp_path.iterdir()) == []
    left = (set(Path("/run").iterdir()) | set(Path("/tmp").iterdir())) - before  # noqa: S108
    assert not [path for path in left if "udpkit" in path.name or path.name == "netns"]


def test_a_lab_that_fails_in_its_body_is_taken_down() -> None:
    keepers = []

    def body() -> None:
        with Lab() as lab:
            keepers.append(lab._control.pid)
            lab.host("a").run("sleep", "1000")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    assert not parents().keys() & set(keepers)


def test_a_keeper_that_dies_is_reported_not_waited_for() -> None:
    control = Control()
    os.kill(control.pid, signal.SIGKILL)
    with pytest.raises(LabError, match=r"^the lab's keeper has ended$"):
        control.ask("host")
    control.close()


def test_closing_twice_is_harmless() -> None:
    lab = Lab()
    lab.host("a").run("cat")
    lab.close()
    lab.close()


def test_no_permission_names_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = tmp_path / "max_user_namespaces"
    setting.write_text("0\n")
    monkeypatch.setattr("udpkit.lab.control.LIMITS", [(str(setting), "0", "user.max_user_namespaces is 0")])
    assert why_unavailable(PermissionError(1, "no")) == "user.max_user_namespaces is 0"
    setting.write_text("9\n")
    assert "run as root" in why_unavailable(PermissionError(1, "no"))
    assert issubclass(LabUnavailable, Exception)
