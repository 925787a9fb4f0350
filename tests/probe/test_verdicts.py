"""What the probe says of ports behind firewalls, routes and dead hosts: state, code, and by whom."""

from __future__ import annotations

import pytest

from udpkit.lab import Host

from .conftest import (
    CLIENT,
    FAR,
    NEAR,
    ROUTER,
    Path,
    echo,
    probe,
    serving,
    unlimited,
)

QUICKLY = ("--timeout", "0.3", "--retries", "1")
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
TOOL = {4: "iptables", 6: "ip6tables"}
ALONE = {4: "/32", 6: "/128"}
"""The length of one address's prefix."""

REJECTS = {
    4: {
        "icmp-net-unreachable": ("unreachable", "net unreachable", 3, 0),
        "icmp-host-unreachable": ("unreachable", "host unreachable", 3, 1),
        "icmp-proto-unreachable": ("prohibited", "protocol unreachable", 3, 2),
        "icmp-port-unreachable": ("prohibited", "port unreachable", 3, 3),
        "icmp-net-prohibited": ("prohibited", "net prohibited", 3, 9),
        "icmp-host-prohibited": ("prohibited", "host prohibited", 3, 10),
        "icmp-admin-prohibited": ("prohibited", "administratively prohibited", 3, 13),
    },
    6: {
        "icmp6-no-route": ("unreachable", "no route", 1, 0),
        "icmp6-adm-prohibited": ("prohibited", "administratively prohibited", 1, 1),
        "icmp6-addr-unreachable": ("unreachable", "address unreachable", 1, 3),
        "icmp6-port-unreachable": ("prohibited", "port unreachable", 1, 4),
        "icmp6-policy-fail": ("prohibited", "policy failed", 1, 5),
        "icmp6-reject-route": ("prohibited", "reject route", 1, 6),
    },
}
"""All that iptables and ip6tables know, and what a router that says so means."""
FIRST = 7000


def said(result: dict[str, object]) -> tuple[object, ...]:
    """(state, kind, type, code, by whom)."""
    icmp = result["icmp"]
    assert isinstance(icmp, dict), result
    return result["state"], icmp["kind"], icmp["type"], icmp["code"], icmp["from"]


def reject(host: Host, chain: str, version: int) -> None:
    """A port for each reject type, from `FIRST` on."""
    for port, kind in enumerate(REJECTS[version], FIRST):
        host.shell(f"{TOOL[version]} -A {chain} -p udp --dport {port} -j REJECT --reject-with {kind}")


@VERSIONS
def test_a_router_that_rejects_is_named_and_the_hosts_own_refusal_told_apart(far: Path, version: int) -> None:
    assert far.router
    unlimited(far.router, far.server)
    reject(far.router, "FORWARD", version)
    beyond = FIRST + len(REJECTS[version])
    outcome = probe(far.client, FAR[version], f"{FIRST}-{beyond}")
    assert outcome.status == 4
    for port, expected in enumerate(REJECTS[version].values(), FIRST):
        assert said(outcome.one(port)) == (*expected, ROUTER[version])
        assert outcome.one(port)["evidence"] == [
            f"ICMP{'v6' if version == 6 else ''} {expected[1]}, said by {ROUTER[version]}"
        ]
    assert outcome.one(beyond)["state"] == "closed"
    assert outcome.one(beyond)["icmp"]["from"] == FAR[version]


@VERSIONS
def test_port_unreachable_by_the_host_itself_is_closed_and_its_other_rejects_are_not(
    near: Path, version: int
) -> None:
    unlimited(near.server)
    reject(near.server, "INPUT", version)
    ports = range(FIRST, FIRST + len(REJECTS[version]))
    with serving(near.server, dict.fromkeys(ports, echo), *NEAR.values()):
        outcome = probe(near.client, NEAR[version], f"{ports[0]}-{ports[-1]}")
    for port, (state, *rest) in zip(ports, REJECTS[version].values(), strict=True):
        own_state = "closed" if rest[0] == "port unreachable" else state
        assert said(outcome.one(port)) == (own_state, *rest, NEAR[version])
        assert "said by the host itself" in outcome.one(port)["evidence"][0]


@VERSIONS
def test_rejects_within_the_default_limits(near: Path, version: int) -> None:
    """More refusals than Linux pays for at once."""
    reject(near.server, "INPUT", version)
    last = FIRST + len(REJECTS[version]) - 1
    outcome = probe(near.client, NEAR[version], f"{FIRST}-{last}")
    kinds = [outcome.one(port)["icmp"]["kind"] for port in range(FIRST, last + 1)]
    assert kinds == [kind for _, kind, _, _ in REJECTS[version].values()]


@pytest.mark.parametrize(
    ("statement", "state", "kinds"),
    [
        ("reject", "prohibited", {4: "port unreachable", 6: "port unreachable"}),
        ("reject with icmpx type no-route", "unreachable", {4: "net unreachable", 6: "no route"}),
        (
            "reject with icmpx type host-unreachable",
            "unreachable",
            {4: "host unreachable", 6: "address unreachable"},
        ),
        (
            "reject with icmpx type admin-prohibited",
            "prohibited",
            dict.fromkeys((4, 6), "administratively prohibited"),
        ),
    ],
)
def test_nftables_rejects(far: Path, statement: str, state: str, kinds: dict[int, str]) -> None:
    assert far.router
    unlimited(far.router)
    far.router.shell(
        "nft 'table inet t { chain f { type filter hook forward priority 0; "
        f"meta l4proto udp {statement}; }}; }}'"
    )
    outcome = probe(far.client, f"{FAR[4]},{FAR[6]}", 7000)
    for version, kind in kinds.items():
        result = outcome.one(7000, FAR[version])
        assert (result["state"], result["icmp"]["kind"]) == (state, kind)
        assert result["icmp"]["from"] == ROUTER[version]


LOCAL_ROUTES = {
    "unreachable": ("unreachable", "no route"),
    "prohibit": ("prohibited", "broadcast or route prohibited"),
    "blackhole": ("unreachable", "invalid argument"),
    "throw": ("unreachable", "no route"),
}
"""A route's kind, and what this host's own kernel says: fib_props[] in net/ipv4/fib_semantics.c."""


@VERSIONS
def test_routes_and_rules_of_this_host(far: Path, version: int) -> None:
    def this_host_says(state: str, kind: str) -> None:
        outcome = probe(far.client, FAR[version], "7000-7001")
        assert outcome.status == 4
        for result in outcome.results:
            assert said(result) == (state, kind, None, None, None)
            words = kind.replace("invalid argument", "no route (blackhole)")
            assert result["evidence"][0].startswith(f"this host did not send it: {words}")
            assert (result["icmp"]["origin"], result["sent"], result["rtt_ms"]) == ("local", 1, None)

    for kind, expected in LOCAL_ROUTES.items():
        route = f"{kind} {FAR[version]}{ALONE[version]}"
        far.client.ip(f"-{version} route add {route}")
        this_host_says(*expected)
        far.client.ip(f"-{version} route del {route}")
    far.client.shell(f"{TOOL[version]} -A OUTPUT -p udp -j DROP")
    this_host_says("prohibited", "blocked by a local rule")
    far.client.shell(f"{TOOL[version]} -F OUTPUT")
    far.client.ip(f"-{version} route del default")
    this_host_says("unreachable", "no route")


@VERSIONS
def test_own_reject(far: Path, version: int) -> None:
    """The error about it comes from an address of this host, and is not about the link."""
    far.client.shell(f"{'iptables' if version == 4 else 'ip6tables'} -A OUTPUT -p udp -j REJECT")
    outcome = probe(far.client, FAR[version], 7000)
    [result] = outcome.results
    assert result["state"] == "prohibited"
    assert result["icmp"]["from"] in {CLIENT[version], None}
    assert "link" not in result["evidence"][0]


ROUTER_ROUTES = {
    4: {
        "unreachable": ("unreachable", "host unreachable", 3, 1),
        "prohibit": ("prohibited", "administratively prohibited", 3, 13),
        "throw": ("unreachable", "net unreachable", 3, 0),
    },
    6: {
        "unreachable": ("unreachable", "no route", 1, 0),
        "prohibit": ("prohibited", "administratively prohibited", 1, 1),
        "throw": ("unreachable", "no route", 1, 0),
    },
}


@VERSIONS
def test_routes_of_a_router(far: Path, version: int) -> None:
    assert far.router
    unlimited(far.router)
    for kind, expected in ROUTER_ROUTES[version].items():
        route = f"{kind} {FAR[version]}{ALONE[version]}"
        far.router.ip(f"-{version} route add {route}")
        [result] = probe(far.client, FAR[version], 7000).results
        assert said(result) == (*expected, ROUTER[version])
        far.router.ip(f"-{version} route del {route}")


NOTHING = (
    "no answer, no ICMP error for any port: "
    "the host drops UDP, suppresses ICMP, or is down; or the port is open but quiet"
)


@VERSIONS
@pytest.mark.parametrize("where", ["router there", "router back", "server back"])
def test_a_black_hole_on_the_way_is_silence(far: Path, version: int, where: str) -> None:
    assert far.router
    there = where.endswith("there")
    host = far.router if where.startswith("router") else far.server
    host.ip(f"-{version} route add blackhole {(FAR if there else CLIENT)[version]}{ALONE[version]}")
    with serving(far.server, {7000: echo}, *FAR.values()):
        outcome = probe(far.client, FAR[version], "7000-7001", *QUICKLY)
    assert outcome.status == 3
    for result in outcome.results:
        assert (result["state"], result["icmp_proven"], result["icmp"]) == ("silent", False, None)
        assert result["evidence"] == [NOTHING]


@VERSIONS
def test_dead_hosts(far: Path, version: int) -> None:
    """Nobody answers ARP or neighbour solicitations: after 3 s the last router or this host says so."""
    near_dead = {4: "192.0.2.77", 6: "2001:db8::77"}[version]
    far_dead = {4: "198.51.100.77", 6: "2001:db8:1::77"}[version]
    outcome = probe(far.client, f"{near_dead},{far_dead}", "7000-7019")
    assert outcome.status == 4
    kind = {4: ("unreachable", "host unreachable", 3, 1), 6: ("unreachable", "address unreachable", 1, 3)}
    assert len(outcome.results) == 40
    for result in outcome.results:
        by = CLIENT if result["address"] == near_dead else ROUTER
        assert said(result) == (*kind[version], by[version])
        [sentence] = result["evidence"]
        sentence = sentence.partition(", as for the other ports")[0]
        if by is CLIENT:
            assert sentence.endswith("nobody on the link has that address, says this host's own kernel")
        else:
            assert sentence.endswith(f"said by {ROUTER[version]}")


def test_more_dead_neighbours_than_the_kernel_has_errors_for(near: Path) -> None:
    """Its global budget (icmp_msgs_per_sec, icmp_msgs_burst) is for all: who was not told looks it up."""
    outcome = probe(near.client, "192.0.2.64/26", "7000-7011")
    assert len(outcome.results) == 62 * 12
    assert {result["state"] for result in outcome.results} == {"unreachable"}
    assert outcome.status == 4
