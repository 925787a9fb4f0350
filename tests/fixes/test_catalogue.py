"""What every fix says, and what is offered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixes.build import FOUR, SIX
from udpkit.diagnosis import RULES, Finding
from udpkit.facts import Endpoint
from udpkit.fixes import EXCHANGES, FIXES, Fix, advise, fill, values
from udpkit.lab.commands import resolve

GROUP = ip_address("172.16.13.255")

every_fix = pytest.mark.parametrize("fix", FIXES.values(), ids=FIXES.keys())
both_families = pytest.mark.parametrize("finding", [FOUR, SIX], ids=["IPv4", "IPv6"])


@every_fix
def test_a_fix_says_what_it_is_against_and_what_it_costs(fix: Fix) -> None:
    assert fix.title
    assert fix.tradeoff.endswith(".")
    assert fix.codes
    assert fix.codes <= set(RULES)


@every_fix
def test_a_fix_is_commands_with_their_undo_or_advice_with_programs(fix: Fix) -> None:
    if fix.commands and not fix.folklore:
        assert len(fix.checks) == len(fix.commands)
        assert len(fix.undo) in (0, len(fix.commands))
    if not fix.tried:
        assert fix.commands or fix.advice
        assert not fix.servers
    elif fix.commands:
        assert len(fix.undo) == len(fix.commands)
        assert not fix.advice
        assert not fix.servers
    else:
        assert not fix.undo
        assert fix.advice
        assert fix.servers.keys() == EXCHANGES.keys()
    assert fix.clients.keys() <= EXCHANGES.keys()


def texts(fix: Fix) -> Iterator[str]:
    """Everything of a fix that may hold placeholders."""
    yield from [fix.tradeoff, fix.advice, *fix.commands, *fix.undo, *fix.clients.values()]
    yield from filter(None, fix.servers.values())
    yield from [fix.once, *fix.remembers.values(), *fix.settle]
    for check in fix.checks:
        yield from [check.asks, check.wants]


@every_fix
@both_families
def test_every_text_can_be_filled(fix: Fix, finding: Finding) -> None:
    for text in texts(fix):
        assert not {"{", "}"} & set(fill(text, fix.placeholders(finding)))


@every_fix
@both_families
def test_the_programs_of_a_fix_can_be_run_by_the_lab(
    fix: Fix, finding: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("udpkit.lab.commands.may_fix", lambda: True)
    placeholders = values(finding)
    for line in [*filter(None, fix.servers.values()), *fix.clients.values()]:
        assert resolve(fill(line, placeholders)).argv


@every_fix
def test_the_words_for_ipv6_are_those_of_its_own_tools(fix: Fix) -> None:
    for line in [*fix.commands, *fix.undo]:
        command = fill(line, fix.placeholders(SIX))
        assert command.startswith(("ip -6 ", "ip6tables ", "conntrack -D -f ipv6 ", "sysctl ", "test "))
        assert not {"172.17.0.1", "0.0.0.0"} & set(command.split())


@every_fix
def test_an_ipv6_address_before_a_port_stands_in_brackets(fix: Fix) -> None:
    for text in [fix.offer("x", SIX).command, fix.offer("x", SIX).tradeoff]:
        assert "13:5300" not in text
        assert ":::" not in text


def test_what_fails_is_folklore_and_is_never_offered() -> None:
    folklore = {fix_id for fix_id, fix in FIXES.items() if fix.folklore}
    assert folklore == {"snat", "snat-notrack-both"}
    for code in RULES:
        offered = {offer.id for offer in advise(replace(FOUR, code=code)).fixes}
        assert not offered & folklore


@pytest.mark.parametrize("code", RULES)
def test_only_fixes_against_that_code_are_offered(code: str) -> None:
    group = replace(FOUR.server, address=GROUP)
    kinds = {
        "one": FOUR,
        "group": replace(FOUR, server=group),
        "translated": replace(FOUR, translated=True),
        "second": replace(FOUR, second=True),
    }
    for asked, finding in kinds.items():
        offered = {offer.id for offer in advise(replace(finding, code=code)).fixes}
        assert offered == {
            fix_id
            for fix_id, fix in FIXES.items()
            if code in fix.codes and not fix.folklore and fix.asked in (asked, "any")
        }


def test_who_asked_a_group_is_told_to_mend_the_client() -> None:
    [offer] = advise(replace(FOUR, server=replace(FOUR.server, address=GROUP))).fixes
    assert offer.id == "unconnected-client"
    assert "UDP-DATAGRAM:172.16.13.255:5300" in offer.command


@both_families
def test_an_offer_has_the_addresses_of_the_finding_and_what_the_trial_showed(finding: Finding) -> None:
    offers = {offer.id: offer for offer in advise(finding, {"bind": True, "route-src": False}).fixes}
    assert offers["bind"].verified is True
    assert offers["route-src"].verified is False
    assert offers["tcp"].verified is None
    for offer in offers.values():
        assert offer.id in ("sockets", "attach") or str(finding.server.address) in offer.command


def test_the_commands_of_an_offer_are_one_line_for_a_shell() -> None:
    offers = {offer.id: offer.command for offer in advise(FOUR).fixes}
    assert offers["snat-notrack-incoming"] == (
        "iptables -t nat -A POSTROUTING -p udp -s 172.17.0.1 --sport 5300 -d 172.17.0.3 "
        "-j SNAT --to-source 172.16.13.13 && "
        "iptables -t raw -A PREROUTING -p udp -s 172.17.0.3 -d 172.16.13.13 --dport 5300 -j CT --notrack"
    )


@pytest.mark.parametrize(
    ("process", "pid"), [("server[77]", "77"), ("a[1][77]", "77"), ("server", "PID"), (None, "PID")]
)
def test_a_process_is_named_by_its_number_where_that_is_known(process: str | None, pid: str) -> None:
    offers = {offer.id: offer.command for offer in advise(replace(FOUR, process=process)).fixes}
    assert offers["attach"].startswith(f"udpkit fix attach --pid {pid}")


def test_a_finding_without_another_address_can_be_advised_on() -> None:
    assert advise(replace(FOUR, actual=None)).fixes


def test_what_a_fix_names_must_be_known_to_be_offered() -> None:
    nobody = replace(FOUR, client=None, server=None)
    offered = {offer.id for offer in advise(nobody).fixes}
    fitting = {name: fix for name, fix in FIXES.items() if fix.is_for(nobody) and not fix.folklore}
    named = {
        name
        for name, fix in fitting.items()
        if "{" in "".join([fix.otherwise or fix.advice, fix.tradeoff, *fix.commands])
    }
    assert named
    assert offered == fitting.keys() - named
    wildcard = replace(FOUR, server=replace(FOUR.server, address=ip_address("0.0.0.0")))
    assert {offer.id for offer in advise(wildcard).fixes} == {"attach", "bind", "sockets", "tcp"}
    network = replace(FOUR, client=ip_network("172.17.0.0/16"))
    assert {offer.id for offer in advise(network).fixes} == fitting.keys()


def test_fill_leaves_other_braces_alone() -> None:
    text = "awk '{ print $1 }' {} {A} {a-b} { port } {{port}} {port"
    assert fill(text, {"port": 7}) == "awk '{ print $1 }' {} {A} {a-b} { port } {port} {port"


def test_a_placeholder_may_have_digits_in_its_name() -> None:
    assert fill("{client2} {1}", {"client2": "x"}) == "x {1}"


def test_fill_refuses_a_name_that_it_does_not_know() -> None:
    with pytest.raises(KeyError, match="prot"):
        fill("{prot}", {"port": 7})


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.text(), min_size=1))
def test_what_is_filled_in_is_not_filled_again(placeholders: dict[str, str]) -> None:
    text = " ".join(f"{{{name}}}" for name in placeholders)
    assert fill(text, placeholders) == " ".join(placeholders.values())


@pytest.mark.parametrize("server", ["0.0.0.0:0", "0.0.0.0:56789", "[::]:6088", None])
@every_fix
def test_no_fix_names_an_address_or_a_port_that_nobody_knows(fix: Fix, server: str | None) -> None:
    address, _, port = (server or "").rpartition(":")
    end = Endpoint(ip_address(address.strip("[]")), int(port)) if server else None
    client = Endpoint(ip_address("fd00::9" if server and "[" in server else "10.0.0.9"), 0)
    offer = fix.offer("x", replace(FOUR, server=end, actual=None, client=client))
    words = f"{offer.command} {offer.tradeoff}" if offer else ""
    assert not re.search(r"0\.0\.0\.0|(?<!fd00)::|port 0|:0\b", words)


@pytest.mark.parametrize(
    ("process", "listener", "bind"),
    [
        ("server", "::", "bind the server to 172.16.13.13:5300 instead of [::]:5300"),
        ("server", "0.0.0.0", "bind the server to 172.16.13.13:5300 instead of 0.0.0.0:5300"),
        ("server", None, "bind the server to 172.16.13.13:5300 instead of all addresses"),
        (
            "unbound[7]",
            "::",
            "unbound.conf, in server: interface: 172.16.13.13@5300; or interface-automatic: yes",
        ),
    ],
)
def test_how_to_bind_fits_the_socket_and_the_program(process: str, listener: str | None, bind: str) -> None:
    wildcard = Endpoint(ip_address(listener), 5300) if listener else None
    told = advise(replace(FOUR, process=process, listener=wildcard))
    assert {offer.id: offer.command for offer in told.fixes}["bind"] == bind


def test_what_is_offered_for_a_listener_on_all_addresses() -> None:
    finding = replace(FOUR, code="listener-locked-to-first-peer", server=Endpoint(ip_address("::"), 6088))
    offers = {offer.id: offer.command for offer in advise(finding).fixes}
    assert offers.keys() == {"attach", "bind", "sockets", "tcp"}
    assert "the address that clients ask" in offers["bind"]
