"""`udpkit rule`, `udpkit`, and their help."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cli.command import TIMEOUT, UDPKIT, udpkit
from udpkit.cli import VERBS
from udpkit.diagnosis import RULES


def test_every_rule_has_a_line() -> None:
    run = udpkit("rule")
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split()[0] for line in run.stdout.splitlines()] == list(RULES)


@pytest.mark.parametrize("code", RULES)
def test_a_rule_has_its_page(code: str) -> None:
    run = udpkit("rule", code)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"{code}\n\n")
    for heading in ("## What it sees", "## Why it happens", "## Example"):
        assert f"\n{heading}\n" in run.stdout


def test_the_pages_as_json() -> None:
    everything = json.loads(udpkit("rule", "--json").stdout)
    one = json.loads(udpkit("rule", "reply-from-other-port", "--json").stdout)
    assert [page["code"] for page in everything["rules"]] == list(RULES)
    assert one["schema"] == everything["schema"] == 1
    assert one["rules"] == [page for page in everything["rules"] if page["code"] == "reply-from-other-port"]


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS)], ids=["udpkit", *VERBS])
def test_help_explains_itself(verb: list[str]) -> None:
    run = udpkit(*verb, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == udpkit(*verb, "-h").stdout
    assert run.stdout.startswith(" ".join(["Usage: udpkit", *verb, "["]))
    assert max(map(len, run.stdout.splitlines())) <= 85


def test_help_lists_every_verb() -> None:
    text = udpkit("--help").stdout
    for verb, line in VERBS.items():
        assert any(shown.split(maxsplit=1) == [verb, line] for shown in text.splitlines())


def test_without_a_verb_it_shows_its_help_and_ends_with_2() -> None:
    run = udpkit()
    assert run.returncode == 2
    assert run.stderr == udpkit("--help").stdout


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_what_needs_no_lab_starts_without_its_libraries(argument: str) -> None:
    command = [sys.executable, "-X", "importtime", UDPKIT, argument]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "udpkit.cli" in imported
    assert not {name for name in imported if name.split(".")[0] in {"rich", "msgspec", "asyncio"}}
    assert {name for name in imported if name.startswith("udpkit")} == {
        "udpkit",
        "udpkit.cli",
        "udpkit.cli.exits",
    }
