"""Pages about experiments, and the tables of their cases."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from msgspec import structs
from rich.console import Console

from report.build import result
from udpkit.lab.run import Result
from udpkit.report.lab import show_tables
from udpkit.report.pages import pages

HOSTILE = "<b>|x|</b> \x1b[31m```\n# heading"


def case(name: str, text: str = "text") -> Result:
    one = result(text)
    its_case = name.partition(":")[2]
    experiment = structs.replace(one.experiment, name=name, case=its_case, twin="other", claim=text)
    return replace(one, experiment=experiment)


def test_a_file_with_cases_has_one_page_with_a_row_for_each() -> None:
    texts = pages([case("mine:a"), case("mine:b"), case("single")])
    assert texts.keys() == {"mine.md", "single.md", "README.md"}
    page = texts["mine.md"]
    assert "| | text |\n|---|---|\n| a | text |\n| b | text |" in page
    assert page.count("$ udpkit lab mine:") == 2
    assert "[other](other.md)" in page
    assert "[mine](mine.md): title text, 2 cases (NOT as expected)" in texts["README.md"]
    assert "| text |" not in texts["single.md"]


def test_what_comes_from_outside_ends_no_block_and_is_no_markup() -> None:
    page = pages([case("mine:a", HOSTILE)])["mine.md"]
    before, shown, after = page.split("\n```\n")
    assert after == ""
    assert "<b>" not in before
    assert "\n# heading" not in before
    assert "\x1b" not in shown
    row = next(line for line in before.splitlines() if line.startswith("| a |"))
    assert row.replace("\\|", "").count("|") == 3


@pytest.mark.parametrize("name", ["mine:a", "mine"])
def test_the_table_on_a_terminal_names_its_file(name: str) -> None:
    out = Console(file=io.StringIO(), width=100)
    show_tables(out, [case(name)])
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().split()
    assert lines == (["mine", "text", "a", "text"] if ":" in name else [])
