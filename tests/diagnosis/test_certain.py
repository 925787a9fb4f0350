"""Findings about what still goes on: each is told once, and only when it has lasted."""

from __future__ import annotations

from dataclasses import replace

from diagnosis.test_drops import CLIENT, SERVER, case, dropped
from udpkit.diagnosis import Finding, diagnose
from udpkit.diagnosis.certain import PATIENCE, Certain
from udpkit.facts import Endpoint

[ERROR] = diagnose(case(dropped("NETFILTER_DROP")))
WARNING = replace(ERROR, code="no-answer", severity="warning")


def told(certain: Certain, findings: list[Finding], now: float) -> list[str]:
    return [one.code for one in certain.new(findings, now)]


def test_what_lasts_is_told_once() -> None:
    certain = Certain()
    both = [ERROR, WARNING]
    assert told(certain, both, 0) == []
    assert told(certain, both, PATIENCE["error"]) == [ERROR.code]
    assert certain.waits
    assert told(certain, both, PATIENCE["warning"]) == [WARNING.code]
    assert not certain.waits
    assert told(certain, both, 100) == []


def test_what_went_away_begins_anew() -> None:
    certain = Certain()
    assert told(certain, [WARNING], 0) == []
    assert told(certain, [], 0.9) == []
    assert told(certain, [WARNING], 1.0) == []
    assert told(certain, [WARNING], 1.9) == []
    assert told(certain, [WARNING], 2.0) == [WARNING.code]


def test_more_of_the_same_is_the_same_and_another_server_is_not() -> None:
    certain = Certain()
    assert told(certain, [ERROR], 0) == []
    assert told(certain, [ERROR], 1) == [ERROR.code]
    again = replace(ERROR, count=9, client=Endpoint(CLIENT.address, 40001), process="known by now")
    assert told(certain, [again], 2) == []
    other = replace(ERROR, server=Endpoint(SERVER.address, 5001))
    assert told(certain, [again, other], 3) == []
    assert told(certain, [again, other], 4) == [ERROR.code]
