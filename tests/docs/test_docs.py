"""What the docs show is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from udpkit.cli import VERBS
from udpkit.diagnosis import RULES
from udpkit.lab.experiment import Step
from udpkit.lab.reading import built_in, load
from udpkit.lab.run import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LAB = (ROOT / "docs" / "lab.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("program", [*blocks(README, "python"), *blocks(LAB, "python")])
def test_every_python_example_runs(program: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=60)


def test_the_example_of_an_experiment_is_the_one_that_comes_along() -> None:
    assert blocks(LAB, "toml") == [built_in()["two-bridges"].read_text()]


def test_the_docs_name_every_key_and_step_of_an_experiment() -> None:
    steps = [step.__struct_config__.tag for step in Step.__args__]
    keys = [field for step in Step.__args__ for field in step.__struct_fields__]
    assert [name for name in [*steps, *keys] if f"`{name}`" not in LAB] == []


def test_the_readme_names_every_verb() -> None:
    assert [verb for verb in VERBS if f"`udpkit {verb} [" not in README] == []


def test_the_readme_shows_what_the_story_finds_and_proves() -> None:
    result = run(load(built_in()["docker0-nc"]))
    assert [finding.code for finding in result.findings if finding.code not in README] == []
    for proof in result.proofs:
        outcomes = [trial.outcome or "-" for trial in proof.trials.values()]
        assert re.search(rf"{re.escape(proof.title)} +{' +'.join(outcomes)} ", README), proof.title


def test_the_story_names_the_kernel_functions_that_explain_it() -> None:
    result = run(load(built_in()["docker0-nc"]), with_fixes=False)
    why = " ".join(step for finding in result.findings for step in finding.why)
    for function in (
        "ip_route_output",
        "__ip4_datagram_connect",
        "__udp4_lib_lookup",
        "icmp_send",
        "udp_err",
    ):
        assert function in why


@pytest.mark.parametrize("code", RULES)
def test_every_manual_page_has_its_sections(code: str) -> None:
    manual = RULES[code].manual
    assert re.findall("^## (.*)", manual, re.MULTILINE) == ["What it sees", "Why it happens", "Example"]
    assert "Silent" in manual


def test_every_experiment_has_its_page() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "experiments").glob("*.md")}
    assert pages == {"README", *built_in()}
