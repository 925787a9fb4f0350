"""`udpkit lab`, as its user sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from experiments.build import SILENT, changed, fixes

from cli.command import udpkit
from udpkit.lab.reading import built_in


def test_the_list_has_every_experiment_with_its_title() -> None:
    run = udpkit("lab", "--list")
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split()[0] for line in run.stdout.splitlines()] == list(built_in())
    assert "nc between two hosts with one address each: UDP works" in run.stdout


def test_the_list_as_json() -> None:
    run = udpkit("lab", "--list", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    document = json.loads(run.stdout)
    assert document["schema"] == 1
    assert [one["name"] for one in document["experiments"]] == list(built_in())
    assert all(one.keys() == {"name", "title", "chapter", "cases"} for one in document["experiments"])


def test_where_nothing_is_wrong_it_says_so() -> None:
    run = udpkit("lab", "one-address-nc")
    assert (run.returncode, run.stderr) == (0, "")
    assert "Findings\n  none\n" in run.stdout
    assert re.search(r"^one-address-nc: as expected \(\d+\.\d s\)$", run.stdout, re.MULTILINE)


def test_the_json_document_of_a_run() -> None:
    run = udpkit("lab", "one-address-nc", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    [experiment] = json.loads(run.stdout)["experiments"]
    assert experiment.pop("seconds") > 0
    assert [source.pop("kind") for source in experiment.pop("sources")] == ["pcap", "sockets", "sockets"]
    assert experiment == {
        "name": "one-address-nc",
        "result": "pass",
        "reason": None,
        "findings": [],
        "fixes": [],
    }


STORY_ON_THE_WIRE = r"""
IP 172\.17\.0\.3\.(\d+) > 172\.16\.13\.13\.56789: UDP, length 6
IP 172\.17\.0\.1\.56789 > 172\.17\.0\.3\.\1: UDP, length 6
IP 172\.17\.0\.3 > 172\.17\.0\.1: ICMP 172\.17\.0\.3 udp port \1 unreachable, length \d+
IP 172\.17\.0\.3\.\1 > 172\.16\.13\.13\.56789: UDP, length 3
IP 172\.16\.13\.13 > 172\.17\.0\.3: ICMP 172\.16\.13\.13 udp port 56789 unreachable, length \d+
"""


def test_the_story_is_the_default_and_tcpdump_reads_its_capture(
    tcpdump: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    run = udpkit("lab", "--pcap", tmp_path / "story.pcap", "--json")
    assert (run.returncode, run.stderr) == (0, f"saved {tmp_path / 'story.pcap'}\n")
    [experiment] = json.loads(run.stdout)["experiments"]
    assert experiment["name"] == "docker0-nc"
    assert {finding["code"] for finding in experiment["findings"]} == {
        "reply-from-other-address",
        "listener-locked-to-first-peer",
    }
    packets = "\n".join(line.split(maxsplit=1)[1] for line in tcpdump(tmp_path / "story.pcap"))
    assert re.fullmatch(STORY_ON_THE_WIRE.strip(), packets)


def test_several_experiments_have_a_line_and_each_capture_a_file_of_its_own(tmp_path: Path) -> None:
    run = udpkit("lab", "one-address-nc", "two-bridges", "--pcap", tmp_path / "my.pcap")
    assert (run.returncode, run.stderr.count("saved ")) == (0, 3)
    assert [line.partition(" (")[0] for line in run.stdout.splitlines()] == [
        "one-address-nc: as expected",
        "two-bridges: as expected",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        "my-one-address-nc-server.eth0.pcap",
        "my-two-bridges-server.docker0.pcap",
        "my-two-bridges-server.br1.pcap",
    }


def test_set_changes_what_is_run() -> None:
    run = udpkit("lab", "one-address-nc", "--set", "port=7777", "--set", "first=good=morning")
    assert run.returncode == 0
    assert " good=morning " in run.stdout
    assert "172.16.13.13:7777" in run.stdout
    assert "56789" not in run.stdout


def test_what_is_not_as_expected_ends_with_1(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(changed(SILENT, "UDP {reply}", "UDP something"))
    run = udpkit("lab", path)
    assert (run.returncode, run.stderr) == (1, "")
    assert "mine: NOT as expected" in run.stdout
    assert "message 2: 172.16.13.13:56789 > 172.16.13.14:" in run.stdout


def test_a_missing_program_ends_with_5_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(changed(SILENT, "nc -ul {port}", "no-such-program"))
    run = udpkit("lab", path)
    assert (run.returncode, run.stderr) == (5, "")
    assert re.search(r"^mine: skipped \(.*\): no-such-program is not installed \(", run.stdout, re.MULTILINE)


def test_a_file_of_ones_own_may_try_fixes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(fixes('bind = { connected = "works", unconnected = "works", nc = "works" }'))
    run = udpkit("lab", path)
    assert (run.returncode, run.stderr) == (0, "")
    assert re.search(
        r"^  bind the server to the address +works +works +works +replies from", run.stdout, re.MULTILINE
    )
    assert "  bind (proven here)\n" in run.stdout


def test_a_file_has_cases_like_those_of_the_catalogue(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    text = SILENT + '\n[cases]\nred = { port = 7001 }\n"dark:blue" = { port = 7002 }\n'
    (folder / "my:own.toml").write_text(
        changed(text, 'text = "{second}"', 'text = "{second}", column = "second"')
    )
    for case in ("red", "dark:blue"):
        run = udpkit("lab", f"{folder}/my:own.toml:{case}")
        assert (run.returncode, run.stderr) == (0, "")
        assert f"my:own:{case}: as expected" in run.stdout
        assert re.search(rf"^my:own\n +second\n  {case} +heard", run.stdout, re.MULTILINE)
    run = udpkit("lab", folder / "my:own.toml")
    assert run.stdout.count(": as expected") == 2
    run = udpkit("lab", f"{folder}/my:own.toml:blue")
    assert (run.returncode, run.stderr.count("it has no case called blue; it has: red, dark:blue")) == (2, 1)


def test_a_file_that_is_asked_for_without_its_ending_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SILENT)
    run = udpkit("lab", "mine:red")
    assert (run.returncode, run.stderr) == (
        2,
        "udpkit: there is no experiment called mine: did you mean mine.toml:red?\n",
    )


def test_a_pattern_that_nothing_fits_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(changed(SILENT, "UDP {reply}", "TCP {reply}"))
    run = udpkit("lab", path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"udpkit: {path}: expect.sequence, pattern 2: “")


WRONG_USE = {
    "unknown verb": (["labb"], "'labb'; see udpkit --help"),
    "unknown option": (["lab", "--zzzz"], "'--zzzz'; see udpkit lab --help"),
    "hostile option": (["lab", "--\n\x1b[31m"], "see udpkit lab --help"),
    "--set without =": (["lab", "--set", "port"], "takes NAME=VALUE"),
    "--set without a name": (["lab", "--set", "=1"], "takes NAME=VALUE"),
    "--pcap to a folder": (["lab", "--pcap", "/"], "'/' is a directory"),
    "too many words": (["rule", "a", "b\n\x1b[31m"], "see udpkit rule --help"),
    "unknown name": (["lab", "one-adress-nc"], "one-adress-nc: did you mean one-address-nc"),
    "nothing like any name": (["lab", "zzzzzz"], "udpkit lab --list shows them"),
    "name with a line end": (["lab", "one\naddress\x1b[31m"], "one\\naddress\\x1b[31m"),
    "no such file": (["lab", "./nowhere.toml"], "./nowhere.toml: No such file or directory"),
    "unknown value": (["lab", "one-address-nc", "--set", "prot=1"], "no value called prot; it has: address"),
    "bad value": (["lab", "one-address-nc", "--set", "port=many"], "port"),
    "unwritable capture": (
        ["lab", "one-address-nc", "--json", "--pcap", "/nowhere/x.pcap"],
        "/nowhere is not a directory",
    ),
    "names with --all": (["lab", "--all", "docker0-nc"], "--list and --all take no names"),
    "unknown rule": (["rule", "NOPE"], "NOPE: udpkit rule lists them"),
    "almost a rule": (["rule", "reply-from-other-adress"], "did you mean reply-from-other-address"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG_USE.values(), ids=WRONG_USE.keys())
def test_wrong_use_ends_with_2_and_one_line_that_names_it(arguments: list[str], words: str) -> None:
    run = udpkit(*arguments)
    assert run.returncode == 2
    assert words in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.rstrip("\n").isprintable()
    assert run.stdout == ""


def test_what_ran_is_told_even_if_it_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = udpkit("lab", "one-address-nc", "--json", "--pages", tmp_path / "file" / "pages")
    assert run.returncode == 2
    assert json.loads(run.stdout)["experiments"][0]["result"] == "pass"
    assert "Not a directory" in run.stderr
