"""docs/league.md is what tools/league.py writes."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from udpkit.facts import Endpoint
from udpkit.lab.multihomed import PLACES, Outcome, Port, Trial

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "league.md").read_text()


@pytest.fixture(scope="module")
def league() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("league", ROOT / "tools" / "league.py")
    assert spec
    assert spec.loader
    module = sys.modules["league"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["league"]


def test_every_entry_has_its_row(league: ModuleType) -> None:
    rows = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
    assert rows == ["server", *(entry.title for entry in league.ENTRIES)]
    head, _, _ = league.HEAD.partition("{date}")
    assert PAGE.startswith(head)
    assert re.search(r"on \d{4}-\d\d-\d\d: \w.*, Linux \d+\.\d+", PAGE)


def port(outcome: dict[str, Outcome]) -> Port:
    return Port(
        53,
        "dns",
        [
            Trial(place, kind, Endpoint(place.address, 53), outcome.get(str(place.address), "right"))
            for place in PLACES
            for kind in ("connected", "unconnected")
        ],
    )


def test_the_score(league: ModuleType) -> None:
    one = port({"192.0.2.9": "wrong", "fe80::1": "silent", "2001:db8::1": "absent"})
    assert (league.score(one, 4), league.score(one, 6)) == ("4 of 5", "5 of 6")
    assert league.few(one) == " (192.0.2.9, fe80::1)"
    assert league.few(port({})) == ""
    none = port({str(place.address): "absent" for place in PLACES})
    assert league.score(none, 6) == "-"
