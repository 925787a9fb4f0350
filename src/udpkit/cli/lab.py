"""`udpkit lab`: run experiments on real Linux hosts in namespaces."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from udpkit.cli.exits import FINDINGS, MISSING, OK, USAGE, Failure
from udpkit.cli.progress import progress_bar
from udpkit.facts.text import printable
from udpkit.lab.errors import BadExperiment, LabUnavailable
from udpkit.lab.experiment import Experiment
from udpkit.lab.reading import built_in, load, load_all
from udpkit.lab.run import Result, run

DEFAULT = "docker0-nc"


def complete_name(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    names = [CompletionItem(name) for name in built_in() if name.startswith(typed)]
    return names or [CompletionItem(typed, type="file")]


class LabVerb(click.Command):
    """`udpkit lab mirror …` is a command of its own; everything else names experiments."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] != ["mirror"]:
            return super().make_context(info_name, args, parent, **extra)
        from udpkit.cli.lab_mirror import mirror

        return mirror.make_context(f"{info_name} mirror", args[1:], parent, **extra)


@click.command(cls=LabVerb)
@click.argument("names", metavar="[NAME[:CASE]|FILE.toml]...", nargs=-1, shell_complete=complete_name)
@click.option("--list", "listed", is_flag=True, help="List the experiments and end.")
@click.option("--all", "every", is_flag=True, help="Run all of them; what lacks a program is skipped.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    default=2 * (os.cpu_count() or 1),
    help="So many at once, of several experiments.  [default: twice the CPUs]",
)
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="Override one of [values].")
@click.option(
    "--pcap",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Save what was captured; several are saved as FILE-EXPERIMENT-HOST.INTERFACE.",
)
@click.option(
    "--pages",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a page in Markdown about each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verb(
    names: Sequence[str],
    listed: bool,
    every: bool,
    jobs: int,
    settings: Sequence[str],
    pcap: Path | None,
    pages: Path | None,
    as_json: bool,
) -> int:
    """Run experiments on real Linux hosts in network namespaces, without or with root.

    Without NAME: the story of a UDP exchange that fails behind a docker bridge, why, and what fixes it. A
    FILE.toml is an experiment of your own; docs/lab.md says how to write one. `udpkit lab mirror` builds a
    copy of this host instead.

    \b
    Exit codes: 0 all as expected · 1 not as expected · 2 unknown name or bad file
                5 no permission to make hosts, or a program that NAME needs is missing
    """
    if names and (listed or every):
        raise click.UsageError("--list and --all take no names")
    if pcap and not pcap.parent.is_dir():
        raise Failure(f"{pcap.parent} is not a directory", USAGE)
    if listed:
        return show_list(as_json)
    wanted = list(built_in()) if every else list(names) or [DEFAULT]
    experiments = [one for name in wanted for one in find(name, parse_settings(settings))]
    results: list[Result] = []
    try:
        for result in run_all(experiments, jobs):
            results.append(result)
            if not as_json:
                show(result, brief=len(experiments) > 1)
    except LabUnavailable as reason:
        raise Failure(str(reason), MISSING) from reason
    if not as_json:
        show_cases(results)
    if as_json:
        from udpkit.report.document import lab_document

        click.echo(json.dumps(lab_document(results), indent=2))
    if pcap:
        save(pcap, results)
    if pages:
        write_pages(pages, results)
    outcomes = {result.result for result in results}
    if "fail" in outcomes:
        return FINDINGS
    return MISSING if "skip" in outcomes and not every else OK


def find(wanted: str, values: dict[str, str | int]) -> list[Experiment]:
    """An experiment by its name, or from a file: one for each of its cases, or for the one that is named.

    Raises Failure.
    """
    known = built_in()
    name, case = name_and_case(wanted, known)
    path = known.get(name)
    if path is None and ("/" in name or name.endswith(".toml")):
        path = Path(name)
    if path is None:
        close = difflib.get_close_matches(name, known, cutoff=0.4)
        if is_file(here := f"{name}.toml"):
            close = [f"{here}:{case}" if case else here]
        hint = f"did you mean {' or '.join(close)}?" if close else "udpkit lab --list shows them"
        raise Failure(f"there is no experiment called {name}: {hint}", USAGE)
    try:
        return [load(path, values, case)] if case else load_all(path, values)
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}", USAGE) from error
    except BadExperiment as error:
        raise Failure(str(error), USAGE) from error


def name_and_case(wanted: str, known: Container[str]) -> tuple[str, str]:
    """`NAME:CASE`, where files and cases may have colons in their names: the longest name that there is."""
    parts = wanted.split(":")
    splits = [(":".join(parts[:end]), ":".join(parts[end:])) for end in range(len(parts), 0, -1)]
    there = (split for split in splits if split[0] in known or is_file(split[0]))
    return next(there, splits[min(1, len(splits) - 1)])


def is_file(path: str) -> bool:
    with suppress(OSError):  # a name may be too long
        return Path(path).is_file()
    return False


def parse_settings(settings: Sequence[str]) -> dict[str, str | int]:
    pairs = [setting.partition("=") for setting in settings]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise click.BadParameter("takes NAME=VALUE", param_hint="--set")
    return {name: value for name, _, value in pairs}


def run_all(experiments: Sequence[Experiment], jobs: int) -> Iterator[Result]:
    """Their results, in their order."""
    if len(experiments) == 1:
        yield run_with_progress(experiments[0])
        return
    pool = ThreadPoolExecutor(jobs)
    try:
        for running in [pool.submit(run, experiment) for experiment in experiments]:
            yield running.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_with_progress(experiment: Experiment) -> Result:
    """Run it; where stderr is a terminal, a bar shows how many fixes have been tried."""
    with progress_bar(printable(experiment.name), "trying fixes") as progress:
        return run(experiment, progress=progress)


def show(result: Result, *, brief: bool) -> None:
    from udpkit.report.console import console
    from udpkit.report.lab import show_outcome, show_result

    (show_outcome if brief else show_result)(console(), result)


def show_cases(results: Sequence[Result]) -> None:
    from udpkit.report.console import console
    from udpkit.report.lab import show_tables

    show_tables(console(), results)


def write_pages(folder: Path, results: Sequence[Result]) -> None:
    from udpkit.report.pages import pages

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages(results).items():
            (folder / name).write_text(text)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", USAGE) from error


def show_list(as_json: bool) -> int:
    experiments = {path: load(path) for path in built_in().values()}
    if as_json:
        listed = [
            {"name": one.name, "title": one.title, "chapter": path.parent.name, "cases": list(one.cases)}
            for path, one in experiments.items()
        ]
        click.echo(json.dumps({"schema": 1, "experiments": listed}, indent=2))
    else:
        width = max(len(one.name) for one in experiments.values())
        for one in experiments.values():
            cases = f" ({len(one.cases)} cases)" if one.cases else ""
            click.echo(f"{one.name:<{width}}  {one.title}{cases}")
    return OK


def save(path: Path, results: Sequence[Result]) -> None:
    """Write every capture: to `path` if there is one, else beside it, named by experiment and interface."""
    captures = {
        f"{result.experiment.name.replace(':', '-')}-{wire}": data
        for result in results
        if result.played
        for wire, data in result.played.captures.items()
    }
    try:
        for name, data in captures.items():
            target = path if len(captures) == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")
            target.write_bytes(data)
            click.echo(f"saved {printable(str(target))}", err=True)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", USAGE) from error
    if not captures:
        click.echo("udpkit: nothing was captured", err=True)
