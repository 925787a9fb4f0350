"""Pages in Markdown about experiments, each from one run."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console

from udpkit.facts.text import printable
from udpkit.lab.reading import built_in
from udpkit.lab.run import Result
from udpkit.report.lab import ENDED, show_result, tables

WIDTH = 118
INDEX = "README"


def pages(results: Sequence[Result]) -> dict[str, str]:
    """Texts by file name: a page for each experiment's file, and an index by chapter."""
    texts = {name: "\n".join(_page(name, group)) for name, group in _by_file(results)}
    texts[INDEX] = "\n".join(_index(results))
    return {f"{name}.md": f"{text}\n" for name, text in texts.items()}


def _by_file(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    for name, group in groupby(results, key=lambda result: result.experiment.file):
        yield name, list(group)


def _index(results: Sequence[Result]) -> Iterator[str]:
    yield "# Experiments\n"
    yield "Each ran on real Linux hosts in network namespaces; its page is from that run (`make docs`)."
    files, chapter = built_in(), ""
    for name, group in _by_file(results):
        folder = files[name].parent.name if name in files else "others"
        if folder != chapter:
            chapter = folder
            yield f"\n## {chapter.replace('-', ' ').capitalize()}\n"
        cases = f", {len(group)} cases" if len(group) > 1 else ""
        ran = "" if group[0].result == "pass" else f" ({ENDED[group[0].result]})"
        yield f"- [{name}]({name}.md): {_escaped(group[0].experiment.title)}{cases}{ran}"


def _page(name: str, results: Sequence[Result]) -> Iterator[str]:
    experiment = results[0].experiment
    yield f"# {_escaped(experiment.title)}\n"
    yield f"*{_escaped(experiment.question)}*"
    if experiment.claim:
        yield f"\n**What is said:** {_escaped(experiment.claim)}"
    if experiment.answer:
        yield f"\n**What was seen:** {_escaped(experiment.answer)}"
    if experiment.twin:
        yield f"\nIts twin: [{experiment.twin}]({experiment.twin}.md)."
    if rows := tables(results).get(name):
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        yield "\n| | " + " | ".join(map(_cell, columns)) + " |"
        yield "|---" * (1 + len(columns)) + "|"
        for case, row in rows.items():
            yield f"| {_cell(case)} | " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |"
    for result in results:
        yield f"\n```\n$ udpkit lab {result.experiment.name}\n{_screen(result)}```"


def _screen(result: Result) -> str:
    file = io.StringIO()
    show_result(Console(file=file, width=WIDTH, no_color=True, highlight=False), result)
    text = file.getvalue().replace("```", "` ` `")  # what is shown cannot end the block
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _escaped(text: str) -> str:
    """In one line, and no HTML."""
    return printable(" ".join(text.split())).replace("<", "&lt;")


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")
