"""The sample project of docs/test.md, run by a pytest of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "pytest"


def pytest_in(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_plugin_is_installed() -> None:
    assert [one.value for one in entry_points(group="pytest11", name="udpkit")] == ["udpkit.pytest_plugin"]


def test_the_sample_project(tmp_path: Path) -> None:
    project = shutil.copytree(SAMPLE, tmp_path / "sample", ignore=shutil.ignore_patterns("__pycache__"))
    run = pytest_in(project)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed, 1 xfailed" in run.stdout


def test_a_failure_shows_the_table(tmp_path: Path) -> None:
    shutil.copy(SAMPLE / "plain_server.py", tmp_path)
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it(multihomed_server):\n"
        "    multihomed_server([sys.executable, 'plain_server.py'], protocol='echo').check()\n"
    )
    run = pytest_in(tmp_path)
    assert run.returncode == 1
    assert "does not answer as it was asked at 192.0.2.9:7007" in run.stdout
    assert "secondary (eth0) 192.0.2.9 192.0.2.1:7007 not heard wrong source" in " ".join(run.stdout.split())
    assert "pytest_plugin.py" not in run.stdout.partition("FAILURES")[2].partition("short test summary")[0]


def test_where_hosts_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(udp_lab):\n    pass\n")
    (tmp_path / "conftest.py").write_text(
        "import udpkit.lab.lab\nfrom udpkit.lab import LabUnavailable\n\n"
        "def refuse(*_, **__):\n    raise LabUnavailable('no namespaces')\n\n"
        "udpkit.lab.lab.Control = refuse\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    failed = pytest_in(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nudpkit_skip = true\n")
    skipped = pytest_in(tmp_path)
    assert (failed.returncode, skipped.returncode) == (1, 0)
    assert "LabUnavailable: no namespaces" in failed.stdout
    assert "SKIPPED" in skipped.stdout
    assert "udpkit's lab: no namespaces" in skipped.stdout


def test_who_does_not_use_it_does_not_pay_for_it() -> None:
    program = (
        "import sys, pytest; had = set(sys.modules); import udpkit.pytest_plugin; "
        "print(*(set(sys.modules) - had))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) <= {"udpkit", "udpkit.pytest_plugin", "shlex"}
