"""Which ports are probed when, and what silence proves, against a simulated host in simulated time."""

from __future__ import annotations

from ipaddress import IPv4Address
from random import Random

import pytest

from probe.simulated import HOST, ROUTER, Outcome, SimulatedHost, play
from udpkit.probe.budget import BURST
from udpkit.probe.sweep import BLANKET, NEVER, Sweep

BEYOND = range(61000, 65536)


def sweep_of(ports: list[int], random: Random, **changes: float | bool) -> Sweep:
    settings: dict[str, float | bool] = {"timeout": 1.0, "retries": 3, **changes}
    return Sweep(ports, random=random, **settings)  # type: ignore[arg-type]


def mixed(
    seed: int, *, answering: int, silent: int, closed: int, rejected: int = 0, **host: float
) -> tuple[Outcome, SimulatedHost, set[int]]:
    """Probe a host with so many ports of each kind, in an order that the seed chooses."""
    random = Random(seed)
    ports = list(range(1000, 1000 + answering + silent + closed + rejected))
    shuffled = random.sample(ports, len(ports))
    quiet = set(shuffled[:silent])
    answers = set(shuffled[silent : silent + answering])
    refused = set(shuffled[silent + answering : silent + answering + closed])
    by_router = set(shuffled[silent + answering + closed :])
    simulated = SimulatedHost({*refused, *BEYOND}, answers, by_router, **host)
    return play(sweep_of(ports, random), simulated, random), simulated, quiet


def begin(sweep: Sweep) -> list[int]:
    """The first ports that are probed: a few to say hello, then more."""
    return sweep.due(0.0) + sweep.due(1.0)


def assert_right(outcome: Outcome, host: SimulatedHost, quiet: set[int]) -> None:
    """Every port has the verdict that it deserves, and silence is proven."""
    wrongly_silent = outcome.silent.keys() - quiet
    assert not wrongly_silent
    assert outcome.silent == dict.fromkeys(quiet, True)
    assert outcome.answered == set(host.answering)


@pytest.mark.parametrize("seed", range(8))
def test_linux_defaults_cost_a_second_for_each_closed_port(seed: int) -> None:
    outcome, host, quiet = mixed(seed, answering=5, silent=15, closed=40)
    assert_right(outcome, host, quiet)
    assert outcome.seconds <= 1.1 * (40 - BURST)


@pytest.mark.parametrize("interval", [0.01, 0.1, 0.25, 3.0])
@pytest.mark.parametrize("delay", [0.0002, 0.05])
def test_the_rate_is_learnt(interval: float, delay: float) -> None:
    outcome, host, quiet = mixed(1, answering=5, silent=30, closed=100, interval=interval, delay=delay)
    assert_right(outcome, host, quiet)
    assert outcome.seconds <= 1.1 * (100 - BURST) * interval + 100 * delay + 3


@pytest.mark.parametrize("seed", range(5))
def test_a_bucket_that_is_empty_at_first_misleads_nobody(seed: int) -> None:
    outcome, host, quiet = mixed(seed, answering=1, silent=4, closed=12, tokens=0.0)
    assert_right(outcome, host, quiet)
    assert outcome.seconds <= 1.5 * 12 + 5


def test_without_a_limit_all_ports_take_no_time() -> None:
    outcome, host, quiet = mixed(1, answering=20, silent=60, closed=20_000, interval=0.0)
    assert_right(outcome, host, quiet)
    assert outcome.seconds < 2
    assert outcome.sent < 20_080 + 60 * 10


@pytest.mark.parametrize("delay", [0.0002, 0.05])
@pytest.mark.parametrize("seed", range(60))
def test_loss_is_noticed(seed: int, delay: float) -> None:
    outcome, host, quiet = mixed(
        seed, answering=5, silent=15, closed=40, loss=0.1, delay=delay, jitter=delay / 10
    )
    assert_right(outcome, host, quiet)


@pytest.mark.parametrize("seed", range(20))
def test_loss_is_noticed_with_few_ports(seed: int) -> None:
    outcome, host, quiet = mixed(seed, answering=1, silent=1, closed=2, loss=0.1)
    assert_right(outcome, host, quiet)


@pytest.mark.parametrize("seed", range(10))
def test_datagrams_that_overtake_each_other(seed: int) -> None:
    outcome, host, quiet = mixed(
        seed, answering=5, silent=15, closed=40, delay=0.02, jitter=0.005, overtaking=0.2
    )
    assert_right(outcome, host, quiet)


@pytest.mark.parametrize("seed", range(5))
def test_a_router_that_refuses_has_a_budget_of_its_own(seed: int) -> None:
    outcome, host, quiet = mixed(seed, answering=3, silent=6, closed=15, rejected=15)
    assert_right(outcome, host, quiet)
    assert {port for port, by in outcome.refused.items() if by == ROUTER} == set(host.rejected)
    assert outcome.seconds < 40, "as long as both took after each other"


def test_that_a_router_refuses_proves_nothing_of_the_host() -> None:
    outcome, host, quiet = mixed(1, answering=1, silent=4, closed=0, rejected=10)
    assert set(outcome.refused) >= set(host.rejected)
    assert outcome.silent == dict.fromkeys(quiet, True), "a closed port was looked for, and found"
    random = Random(1)
    mute = SimulatedHost(rejected=range(1000, 1010))
    outcome = play(sweep_of(list(range(1000, 1014)), random), mute, random)
    assert outcome.silent == dict.fromkeys(range(1010, 1014), False)
    assert outcome.seconds < 60


def test_one_silent_port_is_proven_by_a_port_that_was_not_asked_for() -> None:
    random = Random(1)
    outcome = play(sweep_of([53], random), SimulatedHost(closed=BEYOND), random)
    assert outcome.silent == {53: True}
    assert outcome.seconds < 2.5


def test_a_host_that_says_nothing_at_all() -> None:
    random = Random(1)
    outcome = play(sweep_of([53, 54], random), SimulatedHost(), random)
    assert outcome.silent == {53: False, 54: False}
    assert outcome.seconds == pytest.approx(4, abs=0.1), "one probe and three retries, a timeout apart"
    assert outcome.sent == 2 * 4 + 3, "with each retry a guess at a closed port"


def test_no_guesses_where_a_port_is_asked_alone() -> None:
    random = Random(1)
    outcome = play(sweep_of([53], random, canaries=False), SimulatedHost(closed=BEYOND), random)
    assert outcome.silent == {53: False}
    assert outcome.sent == 4


def test_a_firewall_that_drops_nearly_all() -> None:
    outcome, host, quiet = mixed(3, answering=2, silent=3000, closed=10)
    assert_right(outcome, host, quiet)
    assert outcome.seconds < 150, "256 ports a proof"


def test_errors_that_stop_to_come_prove_nothing_any_more() -> None:
    outcome, host, quiet = mixed(1, answering=0, silent=5, closed=40, mute_after=10.0)
    assert not [port for port, proven in outcome.silent.items() if proven and port in host.closed]
    assert quiet <= outcome.silent.keys()
    assert outcome.seconds < 60


@pytest.mark.parametrize("thinking", [0.3, 0.9])
def test_a_slow_answer_is_an_answer(thinking: float) -> None:
    outcome, host, quiet = mixed(1, answering=3, silent=2, closed=20, thinking=thinking)
    assert_right(outcome, host, quiet)


def test_a_silent_port_is_not_flooded() -> None:
    outcome, _, _ = mixed(1, answering=0, silent=10, closed=40)
    assert outcome.sent < 50 * 20


def test_told_that_the_host_cannot_be_reached_often_enough_it_believes_that() -> None:
    sweep = sweep_of(list(range(1, 101)), Random(1))
    numbers = begin(sweep)
    for number in numbers[: BLANKET - 1]:
        sweep.refused(number, ROUTER, 3.0, unreachable=True)
    assert not sweep.finished
    sweep.refused(numbers[BLANKET - 1], ROUTER, 3.0, unreachable=True)
    assert sweep.blanket
    assert sweep.finished


@pytest.mark.parametrize("heard", ["an answer", "a refusal", "another router"])
def test_but_not_where_something_else_was_heard(heard: str) -> None:
    sweep = sweep_of(list(range(1, 101)), Random(1))
    first, *numbers = begin(sweep)
    if heard == "an answer":
        sweep.replied(first)
    elif heard == "a refusal":
        sweep.refused(first, HOST, 0.1)
    else:
        sweep.refused(first, IPv4Address("192.0.2.253"), 0.1, unreachable=True)
    for number in numbers[:BLANKET]:
        sweep.refused(number, ROUTER, 3.0, unreachable=True)
    assert not sweep.blanket


def test_what_comes_twice_or_was_not_asked_for_is_no_news() -> None:
    sweep = sweep_of([1, 2], Random(1))
    sweep.due(0.0)
    assert sweep.replied(1) is not None
    assert sweep.replied(1) is None
    assert sweep.replied(3) is None
    assert sweep.refused(1, HOST, 0.1) is None
    assert sweep.refused(2, HOST, 0.1) is not None
    assert sweep.finished
    assert sweep.wake() == NEVER
    assert sweep.due(1.0) == []
