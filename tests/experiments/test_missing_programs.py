"""Where netcat or iptables is not installed: said, and the rest goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.build import SIX, STORY, fixes
from udpkit.diagnosis.rules import no_answer
from udpkit.evidence import programs
from udpkit.lab import LabUnavailable, commands
from udpkit.lab.reading import built_in, load, parse
from udpkit.lab.run import run


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Take programs off the PATH of the lab and of its hosts, by the beginnings of their names."""

    def take_off(*names: str) -> None:
        for folder in map(Path, programs.SEARCH_PATH.split(":")):
            for program in folder.iterdir() if folder.is_dir() else ():
                link = tmp_path / program.name
                if not program.name.startswith(names) and not link.is_symlink():
                    link.symlink_to(program)
        monkeypatch.setattr("udpkit.evidence.programs.SEARCH_PATH", str(tmp_path))
        monkeypatch.setattr("udpkit.lab.control.SEARCH_PATH", str(tmp_path))
        commands.openbsd_nc.cache_clear()

    yield take_off
    commands.openbsd_nc.cache_clear()


@pytest.mark.parametrize("story", [STORY, SIX], ids=["IPv4", "IPv6"])
def test_without_netcat_a_stand_in_runs_with_the_same_findings_and_says_so(
    without: Callable[..., None], story: str
) -> None:
    without("nc", "netcat")
    works = '{ connected = "works", unconnected = "works", nc = "works" }'
    result = run(parse("mine", fixes(f"bind = {works}", story=story), {}))
    assert result.result == "pass"
    assert result.reason is not None
    assert "netcat-openbsd is not installed: a stand-in" in result.reason
    assert len(result.findings) == 2
    assert {offer.id: offer.verified for offer in result.findings[0].fixes}["bind"] is True


def test_another_netcat_is_not_taken_for_openbsds(without: Callable[..., None], tmp_path: Path) -> None:
    without("nc", "netcat")
    other = tmp_path / "nc"
    other.write_text("#!/bin/sh\necho traditional >&2\n")
    other.chmod(0o755)
    assert commands.openbsd_nc() is None
    assert commands.resolve("nc -ul 1").note


def test_forms_of_netcat_that_have_no_stand_in_are_missing(without: Callable[..., None]) -> None:
    without("nc", "netcat")
    for line in ("nc -k -ul 1", "nc -ul", "nc"):
        with pytest.raises(commands.ProgramMissing, match="netcat-openbsd"):
            commands.resolve(line)


def test_without_iptables_its_fixes_are_not_tried_and_the_rest_passes(without: Callable[..., None]) -> None:
    without("iptables", "xtables", "ip6tables")
    text = fixes(
        'snat = { connected = "fails", unconnected = "fails", nc = "fails" }',
        'snat-notrack-incoming = { connected = "works", unconnected = "works", nc = "fails" }',
        'route-src = { connected = "works", unconnected = "works", nc = "works" }',
    )
    result = run(parse("mine", text, {}))
    assert (result.result, result.reason) == ("pass", "not tried: iptables is not installed")
    proofs = {proof.id: proof for proof in result.proofs}
    for fix_id in ("snat", "snat-notrack-incoming"):
        assert {trial.outcome for trial in proofs[fix_id].trials.values()} == {None}
        assert proofs[fix_id].seen() == "not tried: iptables is not installed"
    assert {trial.outcome for trial in proofs["route-src"].trials.values()} == {"works"}
    offers = {offer.id: offer.verified for offer in result.findings[0].fixes}
    assert offers["route-src"] is True
    assert offers.get("snat-notrack-incoming") is None


def test_without_a_docker_engine_its_experiments_are_skipped_and_say_so(
    without: Callable[..., None],
) -> None:
    without("dockerd")
    result = run(load(built_in()["docker-nc"]))
    assert (result.result, result.reason) == ("skip", "dockerd is not installed")


def test_root_without_user_namespaces_skips_what_takes_one_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*, user_namespace: bool) -> None:
        assert user_namespace
        raise LabUnavailable("user namespaces are switched off")

    monkeypatch.setattr("udpkit.lab.play.Lab", refuse)
    monkeypatch.setattr("udpkit.lab.play.can_make_hosts", lambda: True)
    result = run(load(built_in()["docker-nc"]))
    assert result.result == "skip"
    assert str(result.reason).endswith(": user namespaces are switched off")
    monkeypatch.setattr("udpkit.lab.play.can_make_hosts", lambda: False)
    with pytest.raises(LabUnavailable):
        run(load(built_in()["docker-nc"]))


def test_without_iproute2_the_lab_says_what_is_missing(without: Callable[..., None]) -> None:
    without("ip")
    result = run(parse("mine", STORY, {}))
    assert (result.result, result.reason) == ("skip", "ip is not installed")


def test_udpkit_in_a_command_line_is_the_one_that_runs_the_lab() -> None:
    page = subprocess.run(
        commands.resolve("udpkit rule no-answer").argv, capture_output=True, text=True, check=True
    )
    assert no_answer.__doc__ is not None
    assert no_answer.__doc__.splitlines()[0] in page.stdout
