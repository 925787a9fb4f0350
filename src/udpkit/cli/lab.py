"""`udpkit lab`: run experiments on real Linux hosts in namespaces."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from udpkit.cli.exits import FINDINGS, MISSING, OK, USAGE, Failure
from udpkit.facts.text import printable
from udpkit.lab.errors import BadExperiment, LabUnavailable
from udpkit.lab.experiment import Experiment, built_in, load
from udpkit.lab.run import Result, run

DEFAULT = "docker0-nc"


def complete_name(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    names = [CompletionItem(name) for name in built_in() if name.startswith(typed)]
    return names or [CompletionItem(typed, type="file")]


@click.command()
@click.argument("names", metavar="[NAME|FILE.toml]...", nargs=-1, shell_complete=complete_name)
@click.option("--list", "listed", is_flag=True, help="List the experiments and end.")
@click.option("--all", "every", is_flag=True, help="Run all of them; what lacks a program is skipped.")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="Override one of [values].")
@click.option(
    "--pcap",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Save what was captured; several are saved as FILE-EXPERIMENT-HOST.INTERFACE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verb(
    names: Sequence[str],
    listed: bool,
    every: bool,
    settings: Sequence[str],
    pcap: Path | None,
    as_json: bool,
) -> int:
    """Run experiments on real Linux hosts in network namespaces, without or with root.

    Without NAME: the story of a UDP exchange that fails behind a docker bridge, why, and what fixes it. A
    FILE.toml is an experiment of your own; docs/lab.md says how to write one.

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
    experiments = [find(name, parse_settings(settings)) for name in wanted]
    results: list[Result] = []
    try:
        for experiment in experiments:
            results.append(run_with_progress(experiment))
            if not as_json:
                show(results[-1], brief=len(experiments) > 1)
    except LabUnavailable as reason:
        raise Failure(str(reason), MISSING) from reason
    if pcap:
        save(pcap, results)
    if as_json:
        from udpkit.report.document import lab_document

        click.echo(json.dumps(lab_document(results), indent=2))
    outcomes = {result.result for result in results}
    if "fail" in outcomes:
        return FINDINGS
    return MISSING if "skip" in outcomes and not every else OK


def find(name: str, values: dict[str, str | int]) -> Experiment:
    """An experiment by its name, or from a file. Raises Failure."""
    known = built_in()
    path = known.get(name)
    if path is None and ("/" in name or name.endswith(".toml")):
        path = Path(name)
    if path is None:
        close = difflib.get_close_matches(name, known, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else "udpkit lab --list shows them"
        raise Failure(f"there is no experiment called {name}: {hint}", USAGE)
    try:
        return load(path, values)
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}", USAGE) from error
    except BadExperiment as error:
        raise Failure(str(error), USAGE) from error


def parse_settings(settings: Sequence[str]) -> dict[str, str | int]:
    pairs = [setting.partition("=") for setting in settings]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise click.BadParameter("takes NAME=VALUE", param_hint="--set")
    return {name: value for name, _, value in pairs}


def run_with_progress(experiment: Experiment) -> Result:
    """Run it; where stderr is a terminal, a bar shows how many fixes have been tried."""
    if not sys.stderr.isatty():
        return run(experiment)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        name = printable(experiment.name)
        task = bar.add_task(name, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, description=f"{name}: trying fixes", completed=done, total=total)

        return run(experiment, progress=progress)


def show(result: Result, *, brief: bool) -> None:
    from udpkit.report.console import console
    from udpkit.report.lab import show_outcome, show_result

    (show_outcome if brief else show_result)(console(), result)


def show_list(as_json: bool) -> int:
    experiments = [load(path) for path in built_in().values()]
    if as_json:
        listed = [{"name": one.name, "title": one.title} for one in experiments]
        click.echo(json.dumps({"schema": 1, "experiments": listed}, indent=2))
    else:
        width = max(len(one.name) for one in experiments)
        for one in experiments:
            click.echo(f"{one.name:<{width}}  {one.title}")
    return OK


def save(path: Path, results: Sequence[Result]) -> None:
    """Write every capture: to `path` if there is one, else beside it, named by experiment and interface."""
    captures = {
        f"{result.experiment.name}-{wire}": data
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
