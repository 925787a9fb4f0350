"""Experiments on real hosts: as expected, not as expected, and not at all."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from fixes.cgroup.conftest import alone

from experiments.build import SILENT, SIX, STORY, changed, fixes
from udpkit.fixes import FIXES
from udpkit.lab.experiment import Experiment
from udpkit.lab.reading import built_in, load, load_all, parse
from udpkit.lab.run import Result, run

__all__ = ["alone"]

CATALOGUE = [experiment for path in built_in().values() for experiment in load_all(path)]


@pytest.mark.parametrize("experiment", CATALOGUE, ids=lambda experiment: experiment.name)
def test_what_comes_with_udpkit_runs_as_expected(
    experiment: Experiment, request: pytest.FixtureRequest
) -> None:
    if any(program.run.startswith("udpkit fix run") for program in experiment.programs.values()):
        request.getfixturevalue("alone")
    result = run(experiment)
    if result.result == "skip":
        pytest.skip(result.reason)
    assert (result.result, result.reason) == ("pass", None)


def passes(text: str, **values: str | int) -> Result:
    """Run it without its fixes; it must be as expected."""
    result = run(parse("mine", text, values), with_fixes=False)
    assert (result.result, result.reason) == ("pass", None)
    return result


def test_other_addresses_port_and_payloads_give_the_same_findings() -> None:
    result = passes(
        STORY,
        address="192.0.2.77",
        bridge="10.88.0.1",
        client="10.88.200.9",
        port=5353,
        first="wie geht's? ÄÖÜ",
        reply="100 % [red] {x}",
        second="x" * 100,
    )
    assert {
        (one.code, str(one.client.address), str(one.server), str(one.actual)) for one in result.findings
    } == {
        (code, "10.88.200.9", "192.0.2.77:5353", "10.88.0.1:5353")
        for code in ("reply-from-other-address", "listener-locked-to-first-peer")
    }


def test_the_story_over_ipv6_has_the_same_findings_and_fixes() -> None:
    four = load(built_in()["docker0-nc"])
    six = parse("six", SIX, {})
    assert six.fixes is not None
    assert four.fixes is not None
    assert six.fixes.expect.keys() == four.fixes.expect.keys()
    result = run(six)
    assert (result.result, result.reason) == ("pass", None)
    assert {(one.code, str(one.server), str(one.actual)) for one in result.findings} == {
        (code, "[fd00:16::13]:56789", "[fd00:17::1]:56789")
        for code in ("reply-from-other-address", "listener-locked-to-first-peer")
    }
    [snat] = [proof for proof in result.proofs if proof.id == "snat"]
    assert re.fullmatch(r"reply moved to port \d+, refused", snat.trials["connected"].seen)


TWO_BRIDGES = """
title = "Two bridges"
question = "Each client asks the address of the other one's bridge: who answers?"
capture = ["server.docker0", "server.br1"]
steps = [
    { do = "start", program = "server", port = 5300 },
    { do = "start", program = "a" },
    { do = "start", program = "b" },
    { do = "say", by = "a", to = "server", text = "from a" },
    { do = "say", by = "server", to = "a", text = "to a", fate = "refused" },
    { do = "say", by = "b", to = "server", text = "from b" },
    { do = "say", by = "server", to = "b", text = "to b", fate = "refused" },
]

[hosts.server.interfaces]
docker0 = { kind = "bridge", addresses = ["172.17.0.1/16"] }
br1 = { kind = "bridge", addresses = ["172.18.0.1/16"] }

[hosts.a]
interfaces.eth0 = { addresses = ["172.17.0.3/16"], link = "server.docker0" }
routes = ["default via 172.17.0.1"]

[hosts.b]
interfaces.eth0 = { addresses = ["172.18.0.3/16"], link = "server.br1" }
routes = ["default via 172.18.0.1"]

[programs]
server = { on = "server", run = "talk serve 0.0.0.0 5300" }
a = { on = "a", run = "talk ask --connect 172.18.0.1 5300" }
b = { on = "b", run = "talk ask --connect 172.17.0.1 5300" }

[expect]
sequence = [
    "172.17.0.3:* > 172.18.0.1:5300 UDP from a",
    "172.17.0.1:5300 > 172.17.0.3:* UDP to a",
    "172.17.0.3 > 172.17.0.1 ICMP port unreachable (172.17.0.1:5300 > 172.17.0.3:*)",
    "172.18.0.3:* > 172.17.0.1:5300 UDP from b",
    "172.18.0.1:5300 > 172.18.0.3:* UDP to b",
    "172.18.0.3 > 172.18.0.1 ICMP port unreachable (172.18.0.1:5300 > 172.18.0.3:*)",
]

[[expect.findings]]
code = "reply-from-other-address"
client = "172.17.0.3:*"

[[expect.findings]]
code = "reply-from-other-address"
client = "172.18.0.3:*"
"""


def test_with_two_bridges_each_client_has_a_finding_of_its_own() -> None:
    result = passes(TWO_BRIDGES)
    assert [(str(one.client.address), str(one.server), str(one.actual)) for one in result.findings] == [
        ("172.17.0.3", "172.18.0.1:5300", "172.17.0.1:5300"),
        ("172.18.0.3", "172.17.0.1:5300", "172.18.0.1:5300"),
    ]


WRONG = {
    "heard though it should not": (
        'to = "client", text = "{reply}"',
        'to = "client", text = "{reply}", fate = "refused"',
        "“world” was heard",
    ),
    "sockets": (
        'expect = ["0.0.0.0:{port} unconnected"]',
        "expect = []",
        "server, at first, socket 1: 0.0.0.0:56789 unconnected, expected none",
    ),
    "sockets later": (
        "{address}:{port} connected to {client}:*",
        "{address}:{port} connected to {client}:1",
        "server, after “hello”, socket 1: 172.16.13.13:56789 connected to 172.16.13.14:",
    ),
    "sequence": ("UDP {reply}", "UDP something", "message 2: 172.16.13.13:56789 > 172.16.13.14:"),
    "sequence too short": (
        '    "{client}:* > {address}:{port} UDP {second}",\n',
        "",
        "message 3: 172.16.13.14:",
    ),
    "sequence too long": (
        "UDP {second}",
        'UDP {second}", "* UDP more',
        "message 4: none, expected * UDP more",
    ),
    "finding": (
        "findings = []",
        '[[expect.findings]]\ncode = "reply-from-other-port"\nserver = "{address}:1"',
        "missing finding reply-from-other-port (* > 172.16.13.13:1, actual *)",
    ),
}


@pytest.mark.parametrize(("old", "new", "reason"), WRONG.values(), ids=WRONG.keys())
def test_what_is_not_as_expected_fails_and_is_named_alone(old: str, new: str, reason: str) -> None:
    result = run(parse("mine", changed(SILENT, old, new), {}))
    assert result.result == "fail"
    assert result.reason is not None
    assert result.reason.startswith(reason)
    assert "; " not in result.reason


def test_a_line_that_is_not_heard_though_it_should_be_fails() -> None:
    text = changed(STORY, 'text = "{second}", fate = "refused"', 'text = "{second}"')
    result = run(parse("mine", text, {}), with_fixes=False)
    assert (result.result, result.reason) == ("fail", "“hi” was refused, expected it to be heard")


CODE = 'code = "listener-locked-to-first-peer"'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (CODE, CODE.replace("listener-locked-to-first-peer", "reply-from-other-port")),
        (CODE, f'{CODE}\nseverity = "note"'),
    ],
    ids=["another code", "another severity"],
)
def test_a_finding_that_is_not_expected_fails(old: str, new: str) -> None:
    result = run(parse("mine", changed(STORY, old, new), {}), with_fixes=False)
    assert result.result == "fail"
    unexpected, missing = (result.reason or "").split("; ")
    assert unexpected.startswith(
        "unexpected finding listener-locked-to-first-peer: The listener on port 56789"
    )
    assert missing.startswith("missing finding ")


UNEXPECTED = {
    "fails though it should work": (
        'none = { connected = "works", unconnected = "fails", nc = "fails" }',
        "fix none, connected: fails (reply from 172.17.0.1:56789, refused), expected works",
    ),
    "works though it should fail": (
        'bind = { connected = "works", unconnected = "works", nc = "fails" }',
        "fix bind, nc: works (replies from 172.16.13.13:56789), expected fails",
    ),
    "has no meaning": (
        'tcp = { connected = "works", unconnected = "works", nc = "works" }',
        "fix tcp, unconnected: None (), expected works",
    ),
}


@pytest.mark.parametrize(("line", "reason"), UNEXPECTED.values(), ids=UNEXPECTED.keys())
def test_a_fix_that_fares_otherwise_fails_and_is_named_alone(line: str, reason: str) -> None:
    result = run(parse("mine", fixes(line), {}))
    assert (result.result, result.reason) == ("fail", reason)


def test_a_fix_is_tried_in_the_exchanges_that_are_named() -> None:
    result = run(parse("mine", fixes('bind = { nc = "works" }'), {}))
    assert (result.result, result.reason) == ("pass", None)
    [proof] = result.proofs
    assert {exchange: trial.outcome for exchange, trial in proof.trials.items()} == {
        "connected": None,
        "unconnected": None,
        "nc": "works",
    }


def test_fixes_of_findings_that_are_not_there_fail() -> None:
    text = changed(STORY, 'run = "nc -ul {port}"', 'run = "nc -ul {address} {port}"')
    text = changed(text, '    { do = "end", program = "server" }, ', "    ")
    result = run(parse("mine", text, {}))
    assert result.result == "fail"
    assert "no finding that its fixes are for, so none was tried" in str(result.reason)


@pytest.mark.parametrize("outcome", ["works", "fails"])
def test_a_fix_whose_command_is_refused_is_never_as_expected(
    outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(FIXES["snat"], commands=["echo no such table >&2; exit 1"])
    monkeypatch.setitem(FIXES, "snat", broken)
    result = run(parse("mine", fixes(f'snat = {{ connected = "{outcome}" }}'), {}))
    assert result.result == "fail"
    assert "no such table" in str(result.reason)


def test_the_lab_tells_of_every_trial() -> None:
    told: list[tuple[int, int]] = []
    run(
        parse("mine", fixes('tcp = { connected = "works", nc = "works" }'), {}),
        progress=lambda *one: told.append(one),
    )
    assert told == [(1, 2), (2, 2)]


def test_a_program_that_is_not_installed_skips() -> None:
    result = run(parse("mine", changed(SILENT, "nc -ul {port}", "no-such-program {port}"), {}))
    who = "(program server, on host server)"
    assert (result.result, result.reason) == ("skip", f"no-such-program is not installed {who}")


START_CLIENT = '{ do = "start", program = "client" }'
PRINTS = '{ do = "prints", program = "client", text = "steady" }'
MISSPELT = {
    "in a program": (
        "nc -u {address}",
        "tallk ask {address}",
        "tallk is not installed (program client, on host client): did you mean talk?",
    ),
    "in a shell line": (
        START_CLIENT,
        START_CLIENT + ', { do = "command", on = "client", run = "tallk" }',
        "tallk is not installed (client: tallk): did you mean talk?",
    ),
    "the lab's own in a shell line": (
        START_CLIENT,
        START_CLIENT + ', { do = "command", on = "client", run = "udpkit-serve :: 1" }',
        "udpkit-serve is not installed (client: udpkit-serve :: 1): it is the lab's own, which [programs]",
    ),
}


@pytest.mark.parametrize(("old", "new", "reason"), MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_program_is_named_with_who_needs_it_and_the_nearest(
    old: str, new: str, reason: str
) -> None:
    result = run(parse("mine", changed(SILENT, old, new), {}))
    assert result.result == "skip"
    assert reason in str(result.reason)


ENDED = [
    ("nc -ul {port}", "sh -c 'echo no such option >&2; echo usage: server; exit 3'", "no such option"),
    ("nc -ul {port}", "sh -c 'echo Traceback >&2; echo KeyError >&2; exit 3'", "Traceback … KeyError"),
    ("nc -ul {port}", "sh -c 'exit 3'", "exit status 3"),
]


@pytest.mark.parametrize(("old", "line", "words"), ENDED)
@pytest.mark.parametrize("traced", [False, True])
def test_a_program_that_ends_at_once_with_an_error_is_named_where_it_fails(
    old: str, line: str, words: str, traced: bool
) -> None:
    text = changed(SILENT, ', port = "{port}" }', " }").replace(
        'expect = ["0.0.0.0:{port} unconnected"]', "expect = []"
    )
    text = changed(text, f'"{old}"', f'"{line}", trace = {str(traced).lower()}')
    result = run(parse("mine", text, {}))
    assert result.result == "fail"
    assert f"server on server ({line}) ended by itself with status 3: {words}" in str(result.reason)
    assert "client on client" not in str(result.reason)


def test_what_was_printed_instead_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udpkit.lab.play.PATIENCE", 0.5)
    line = "sh -c 'echo ready; echo stready; cat'"
    text = changed(changed(SILENT, "nc -u {address} {port}", line), START_CLIENT, f"{START_CLIENT}, {PRINTS}")
    result = run(parse("mine", text, {}))
    assert result.reason == "client did not print “steady” (waited 0.5 s); it printed ready / stready"


def test_a_long_datagram_does_not_fill_the_reason() -> None:
    first = "x" * 1000
    result = run(parse("mine", changed(SILENT, "UDP {first}", "UDP y*"), {"first": first}))
    assert f"56789 UDP {'x' * 100}" in str(result.reason)
    assert len(str(result.reason)) < 400


def test_an_interface_may_be_called_like_a_word_of_ips_and_captured_where_a_command_makes_it() -> None:
    text = SILENT.replace("server.eth0", "server.dev").replace(
        "server.interfaces.eth0", "server.interfaces.dev"
    )
    text = changed(
        text,
        "\n[programs]",
        'server.commands = ["ip link add name up.5 type bridge"]\n[programs]',
    )
    text = changed(text, 'capture = ["server.dev"]', 'capture = ["server.dev", "server.up.5"]')
    result = run(parse("mine", text, {}))
    assert (result.result, result.reason) == ("pass", None)
    assert result.played
    assert [source.path for source in result.played.case.sources][:2] == ["server.dev", "server.up.5"]


def test_what_a_step_has_ended_or_waited_for_is_not_blamed() -> None:
    text = changed(STORY, "UDP {second}", "UDP something")
    assert 'do = "end", program = "server"' in text  # its socket reports an error: nc ends with 1
    result = run(parse("mine", text, {}), with_fixes=False)
    assert result.result == "fail"
    assert "ended by itself" not in str(result.reason)


NEEDS = {
    "it has it": ("true", "true", "pass"),
    "it lacks it": ("false", "true", "skip"),
    "it lacks it, and so the hosts cannot be built": ("false", "false", "skip"),
    "it has it, and the hosts cannot be built": ("true", "false", "fail"),
}


@pytest.mark.parametrize(("need", "command", "outcome"), NEEDS.values(), ids=NEEDS.keys())
def test_a_machine_that_lacks_what_is_needed_skips(need: str, command: str, outcome: str) -> None:
    text = changed(STORY, "[hosts.client]", f'[hosts.client]\ncommands = ["{command}"]')
    result = run(parse("mine", f'needs = {{ gremlins = "{need}" }}\n{text}', {}), with_fixes=False)
    assert result.result == outcome
    assert (result.reason == "this machine has no gremlins") == (outcome == "skip")


BROKEN = {
    "address": ("{address}/24", '{address}/24", "ff02::1/64', "address add ff02::1/64"),
    "route": ('["default via {bridge}"]', '["default via 1.2.3.4"]', "route add default via 1.2.3.4"),
    "command": ("routes = [", 'commands = ["echo no good >&2; false"]\nroutes = [', "no good"),
}


@pytest.mark.parametrize(("old", "new", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_what_a_host_refuses_fails_in_one_line(old: str, new: str, reason: str) -> None:
    result = run(parse("mine", changed(STORY, old, new), {}))
    assert result.result == "fail"
    assert reason in str(result.reason)
    assert len(str(result.reason).splitlines()) == 1
