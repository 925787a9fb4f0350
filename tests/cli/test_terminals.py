"""What reaches a terminal, a pipe, and a reader that has gone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from experiments.build import SILENT, changed, fixes

from cli.command import TIMEOUT, UDPKIT, environment, on_terminals, udpkit

FIX = fixes('bind = { connected = "works", unconnected = "works", nc = "works" }')
STYLE = re.compile(r"\x1b\[([0-9;]*)m")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]")


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """The story with one fix."""
    path = tmp_path / "trial.toml"
    path.write_text(FIX)
    return path


def test_a_terminal_gets_colours_on_stdout_and_the_progress_on_stderr(trial: Path) -> None:
    code, out, err = on_terminals("lab", trial)
    assert code == 0
    assert "\x1b[32mworks\x1b[0m" in out
    assert "trying fixes" not in out
    assert "trial: trying fixes" in err
    assert "3/3" in err
    assert err.endswith("\x1b[2K")  # the bar is gone when it has ended
    assert err.count("\x1b[?25l") == err.count("\x1b[?25h")  # and the cursor is back


def test_a_terminal_with_no_color_gets_none(trial: Path) -> None:
    _, out, _ = on_terminals("lab", trial, NO_COLOR="1")
    styles = {number for style in STYLE.findall(out) for number in style.split(";")}
    assert styles <= {"", "0", "1", "2", "3"}  # bold, dim and italic are no colours
    assert not CONTROL.search(STYLE.sub("", out))


def test_a_pipe_gets_text_alone(trial: Path) -> None:
    run = udpkit("lab", trial)
    assert (run.returncode, run.stderr) == (0, "")
    assert "works" in run.stdout
    assert not CONTROL.search(run.stdout)


HOSTILE = "\\u001b]0;owned\\u0007 \\u001b[31m \\u009b2J \\r [bold]x[/] {}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "', f'title = "{HOSTILE}'),
        ('question = "', f'question = "{HOSTILE}'),
        ('first = "hello"', f'first = "{HOSTILE}"'),
        ("UDP {reply}", f"UDP {HOSTILE}"),
        ('run = "nc -ul {port}"', f'run = "{HOSTILE}"'),
        ('["{address}/24"]', f'["{HOSTILE}"]'),
        ("[values]", f'[values]\n"{HOSTILE}" = 1'),
        ("title =", f'"{HOSTILE}\\n" = 1\ntitle ='),
        ("\nclient.interfaces", f'\n"{HOSTILE}".interfaces'),
        ('on = "client", run', f'on = "{HOSTILE}", run'),
        ("findings = []", f'[[expect.findings]]\ncode = "{HOSTILE}"'),
    ],
    ids=[
        "title",
        "question",
        "payload",
        "sequence",
        "program",
        "address",
        "value",
        "key",
        "host",
        "name",
        "code",
    ],
)
def test_a_hostile_file_puts_no_control_character_on_a_terminal(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text(changed(SILENT, old, new))
    code, out, err = on_terminals("lab", path, NO_COLOR="1")
    assert code in (0, 1, 2, 5)
    assert "Traceback" not in err
    assert "owned" in out + err
    assert not CONTROL.search(STYLE.sub("", out))
    if code == 2:
        assert not CONTROL.search(err)
        assert len(err.splitlines()) == 1


def test_a_hostile_file_name_is_escaped_like_its_text(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31m [red] \n.toml"
    path.write_text(SILENT)
    code, out, err = on_terminals("lab", path, NO_COLOR="1")
    assert code == 0
    assert "\\x1b[31m [red]" in out
    assert not CONTROL.search(STYLE.sub("", out))
    assert "\x1b[31m" not in err


@pytest.mark.parametrize(
    "arguments",
    [["lab", "--list"], ["lab", "one-address-nc"], ["lab", "one-address-nc", "--json"], ["rule"], ["--help"]],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_no_error(arguments: list[str]) -> None:
    with subprocess.Popen(
        [UDPKIT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(TIMEOUT) == 0


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [UDPKIT, "lab", "--list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    assert (run.returncode, run.stderr) == (2, "udpkit: No space left on device\n")


def test_a_terminal_that_cannot_show_an_arrow_still_gets_the_rest() -> None:
    run = udpkit("lab", "one-address-nc", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (run.returncode, run.stderr) == (0, "")
    assert " hello " in run.stdout
    assert run.stdout.isascii()
