"""Cases, and the steps that look at programs: what they type, print and ask of the kernel."""

from __future__ import annotations

import shutil

import pytest

from experiments.build import changed
from udpkit.lab.errors import BadExperiment
from udpkit.lab.reading import parse
from udpkit.lab.run import Result, run

REFUSED = """
title = "A refusal is told once"
question = "Which call hears it?"
capture = ["server.eth0"]
steps = [
    { do = "start", program = "client" },
    { do = "type", program = "client", text = "one" },
    { do = "prints", program = "client", text = "send: done" },
    { do = "type", program = "client", text = "two" },
    { do = "prints", program = "client", text = "send: ECONN*", column = "second" },
    { do = "command", on = "server", run = "{line}", prints = ["*eth0*", "*{address}*"], column = "seen" },
]

[values]
address = "10.0.0.1"
line = "ip -brief link; ip -brief address"

[cases]
near = {}
other = { address = "10.0.0.3" }

[hosts.server]
interfaces.eth0 = { addresses = ["{address}/24"] }

[hosts.client]
interfaces.eth0 = { addresses = ["10.0.0.2/24"], link = "server.eth0" }

[programs]
client = { on = "client", run = "talk ask --connect --errors --deaf {address} 7000" }

[expect]
sequence = [
    "10.0.0.2:* > {address}:7000 UDP one",
    "{address} > 10.0.0.2 ICMP port unreachable (10.0.0.2:* > {address}:7000)",
]

[[expect.findings]]
code = "nobody-listens"
server = "{address}:7000"
"""

LINE = 'line = "ip -brief link; ip -brief address"'


def outcome(text: str, case: str = "") -> Result:
    return run(parse("mine", text, {}, case))


@pytest.mark.parametrize(("case", "address"), [("near", "10.0.0.1"), ("other", "10.0.0.3")])
def test_each_case_has_its_own_values_and_a_row_of_what_was_seen(case: str, address: str) -> None:
    result = outcome(REFUSED, case)
    assert (result.experiment.name, result.result, result.reason) == (f"mine:{case}", "pass", None)
    cells = result.cells()
    assert cells["second"] == "send: ECONNREFUSED"
    assert address in cells["seen"]


def test_a_line_that_a_command_does_not_print_fails_and_is_named() -> None:
    result = outcome(changed(REFUSED, LINE, 'line = "echo one; echo two"'))
    assert result.result == "fail"
    assert "printed one / two, expected *eth0*" in str(result.reason)


def test_lines_in_another_order_fail() -> None:
    result = outcome(changed(REFUSED, '"*eth0*", "*{address}*"', '"*{address}*", "*LOOPBACK*"'))
    assert result.result == "fail"
    assert "expected *LOOPBACK*" in str(result.reason)


def test_an_exit_status_that_is_not_expected_fails_and_one_that_is_does_not() -> None:
    text = changed(REFUSED, LINE, 'line = "echo eth0; echo 10.0.0.1; exit 3"')
    assert "exit status 3, expected 0: 10.0.0.1" in str(outcome(text).reason)
    assert outcome(changed(text, "prints = [", "status = 3, prints = [")).result == "pass"


def test_a_program_that_has_ended_prints_nothing_more() -> None:
    result = outcome(changed(REFUSED, "talk ask --connect --errors --deaf {address} 7000", "echo bye"))
    assert result.result == "fail"
    assert "client has ended: bye" in str(result.reason)


def test_what_was_seen_before_a_step_failed_is_shown() -> None:
    result = outcome(changed(REFUSED, LINE, 'line = "exit 1"'))
    assert result.result == "fail"
    assert result.played
    assert result.played.captures.keys() == {"server.eth0"}
    assert [finding.code for finding in result.findings] == ["nobody-listens"]


def test_a_program_that_was_killed_starts_again() -> None:
    again = '{ do = "stop", program = "client", signal = "KILL" }, { do = "start", program = "client" },'
    text = changed(REFUSED, '{ do = "type", program = "client", text = "one" },', again + again)
    text = changed(text, '{ do = "prints", program = "client", text = "send: done" },', "")
    text = changed(text, 'text = "send: ECONN*"', 'text = "send: done"')
    text = changed(text, "UDP one", "UDP two")
    assert outcome(text).reason is None


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_what_a_traced_program_asks_of_the_kernel_is_evidence() -> None:
    text = changed(REFUSED, '7000" }', '7000", trace = true }')
    calls = '[expect]\ncalls.client = ["connect(*) = 0", "sendto(*one*) = 4", "sendto(*) = -1 ECONNREFUSED*"]'
    text = changed(text, "[expect]", calls)
    result = outcome(text)
    assert (result.result, result.reason) == ("pass", None)
    assert result.played
    assert [source.kind for source in result.played.case.sources] == ["pcap", "strace"]
    wrong = outcome(changed(text, "sendto(*one*) = 4", "sendto(*one*) = 5"))
    assert "client did not call sendto(*one*) = 5 in its turn" in str(wrong.reason)


def test_what_a_machine_lacks_skips() -> None:
    text = changed(REFUSED, "[values]", "[needs]\n'such a device' = 'false'\n\n[values]")
    result = outcome(text)
    assert (result.result, result.reason) == ("skip", "this machine has no such a device")


BAD = {
    "an unknown case": ("", "", "there", "no case called there; it has: near, other"),
    "a value that is not there": ("other = { address", "other = { adress", "near", "no value called adress"),
    "a case that is no table": ("near = {}", "near = 1", "near", "cases.near is not a table"),
    "calls of who is not traced": ("[expect]\n", "[expect]\ncalls.client = []\n", "near", "traced program"),
    "an unknown signal": ('do = "type"', 'do = "stop", signal = "HUP"', "near", "HUP"),
    "an unknown fate": ('do = "type", program = "client"', 'do = "say", fate = "eaten"', "near", "eaten"),
}


@pytest.mark.parametrize(("old", "new", "case", "culprit"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused(old: str, new: str, case: str, culprit: str) -> None:
    with pytest.raises(BadExperiment, match=culprit):
        parse("x", changed(REFUSED, old, new), {}, case)
