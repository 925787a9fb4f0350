"""Results as people see them: whole, and harmless."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from report.build import result
from udpkit.diagnosis import Offer
from udpkit.facts.text import printable
from udpkit.lab.run import Result
from udpkit.report.console import console
from udpkit.report.lab import show_result

HOSTILE = "\x1b]0;owned\x07 \x1b[2J \x9b31m \r \x08 \x7f \u202e [red]markup[/red] [/]"


def shown(one: Result, *, colour: bool = False, width: int = 200) -> str:
    out = Console(
        file=io.StringIO(), force_terminal=colour, width=width, highlight=False, no_color=not colour
    )
    show_result(out, one)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@given(st.text())
def test_printable_leaves_no_control_character_but_line_ends(text: str) -> None:
    safe = printable(text)
    assert not [one for one in safe if unicodedata.category(one).startswith("C") and one != "\n"]
    assert not {"\x1b", "\x9b", "\u202e", "\u2028"} & set(safe)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]) | st.sampled_from(" \n")))
def test_printable_changes_nothing_that_is_harmless(text: str) -> None:
    assert printable(text) == text


def test_printable_shows_what_it_escaped() -> None:
    assert printable("a\x1b[31mb\rc\n") == "a\\x1b[31mb\\rc\n"


def test_no_text_from_outside_moves_the_cursor_or_changes_a_colour() -> None:
    screen = shown(result(HOSTILE))
    assert not {one for one in screen if unicodedata.category(one).startswith("C")} - {"\n"}


def test_no_text_from_outside_is_taken_for_markup() -> None:
    one = result("[red]markup[/red] [/]")
    screen = shown(one, colour=True)
    assert screen.count("[red]markup[/red] [/]") == shown(one).count("[red]markup[/red] [/]") > 10
    for place in ("title", "question", "summary", "why", "command", "tradeoff", "seen", "reason", "bind"):
        assert f"{place} [red]markup[/red] [/]" in shown(one)


@pytest.mark.parametrize(
    ("client", "server"),
    [("172.17.0.3", "172.16.13.13"), ("fd00:17::3", "fd00:16::13")],
    ids=["IPv4", "IPv6"],
)
def test_the_sequence_and_the_sockets_have_their_addresses_and_ports(client: str, server: str) -> None:
    one = result("hello", client, server)
    asker, asked = one.findings[0].client, one.findings[0].server
    lines = shown(one).splitlines()
    [request] = [line for line in lines if "─▶" in line]
    assert request.split()[:2] == ["1", str(asker)]
    assert " hello " in request
    assert request.split()[-1] == str(asked)
    [refusal] = [line for line in lines if "◀─" in line]
    assert refusal.split()[:2] == ["2", client]
    assert refusal.split()[-3:] == [server, "about", "1"]
    [socket] = [line for line in lines if "connected to" in line]
    assert socket.split() == [
        "hello,",
        "after",
        "“hello”",
        str(asked),
        "connected",
        "to",
        str(asker),
        "hello",
    ]


def test_an_error_about_a_datagram_that_was_not_captured_names_its_ends() -> None:
    one = result()
    assert one.played is not None
    del one.played.messages[0]
    assert "about 172.17.0.3:40000 > 172.16.13.13:5300" in shown(one)


def test_no_line_in_a_pipe_ends_in_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(console(), result())
    printed = capsys.readouterr().out
    assert "Findings\n  error reply-from-other-address\n" in printed
    assert [line for line in printed.splitlines() if line != line.rstrip()] == []


def test_what_is_to_be_copied_stays_on_one_line_however_narrow_the_terminal() -> None:
    command = "iptables " + "--option value " * 20 + "-j SNAT"
    one = result()
    one.findings = [replace(one.findings[0], fixes=[Offer("route-src", command, "none")])]
    assert f"    {command}\n" in shown(one, width=40)


@pytest.mark.parametrize(
    ("outcome", "words"), [("pass", "as expected"), ("fail", "NOT as expected"), ("skip", "skipped")]
)
def test_the_last_line_says_how_it_ended(outcome: str, words: str) -> None:
    one = result()
    one.result = outcome  # type: ignore[assignment]
    assert shown(one).splitlines()[-1] == f"text: {words} (1.2 s): reason text"


def test_no_finding_is_said_too() -> None:
    one = result()
    one.findings = []
    assert "Findings\n  none\n" in shown(one)
