"""SNAT with conntrack switched off in both directions: fails, since NAT is done by conntrack."""

from udpkit.fixes.catalogue import snat
from udpkit.fixes.fix import Fix

IN = "{iptables} -t raw %s PREROUTING -p udp -s {client} -d {address} --dport {port} -j CT --notrack"
OUT = "{iptables} -t raw %s OUTPUT -p udp --sport {port} -d {client} -j CT --notrack"

FIX = Fix(
    title="SNAT + NOTRACK, both directions",
    codes=frozenset({"reply-from-other-address"}),
    asked="one",
    tradeoff="Does not help: without conntrack nothing is translated.",
    commands=[snat.RULE % "-A", IN % "-A", OUT % "-A"],
    undo=[snat.RULE % "-D", IN % "-D", OUT % "-D"],
    folklore=True,
)
