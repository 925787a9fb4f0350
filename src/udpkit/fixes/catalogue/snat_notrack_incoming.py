"""SNAT of the reply, and no conntrack entry of the request that could be in its way."""

from udpkit.fixes.catalogue import snat, snat_notrack_both
from udpkit.fixes.fix import Check, Fix

FORGET = "conntrack -D -f {family} -p udp "

FIX = Fix(
    title="SNAT + NOTRACK, incoming only",
    codes=frozenset({"reply-from-other-address", "wildcard-without-pktinfo"}),
    asked="one",
    tradeoff="Two firewall rules for each client, address and port; firewall rules that go by connection "
    "state, and NAT of requests, do not see these requests any more; no use where the server connects its "
    "listener, as nc does. Gone after a reboot.",
    commands=[snat.RULE % "-A", snat_notrack_both.IN % "-A"],
    undo=[snat.RULE % "-D", snat_notrack_both.IN % "-D"],
    checks=[Check(asks=snat.RULE % "-C"), Check(asks=snat_notrack_both.IN % "-C")],
    settle=[
        FORGET + "--orig-src {client} --orig-dst {address} --dport {port}",
        FORGET + "--orig-src {actual} --orig-dst {client} --sport {port}",
    ],
    once="{client} {address} {port} {actual}",
    local=["address", "actual"],
)
