"""Rewrite the reply's source: fails, since conntrack holds the wanted tuple for the request already."""

from udpkit.fixes.fix import Fix

MATCH = "-p udp -s {actual} --sport {port} -d {client}"
RULE = "{iptables} -t nat %s POSTROUTING " + MATCH + " -j SNAT --to-source {address}"

FIX = Fix(
    title="SNAT of the reply",
    codes=frozenset({"reply-from-other-address"}),
    asked="one",
    tradeoff="Does not help: the reply comes from another port.",
    commands=[RULE % "-A"],
    undo=[RULE % "-D"],
    folklore=True,
)
