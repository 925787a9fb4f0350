"""SNAT of the reply, and no conntrack entry of the request that could be in its way."""

from udpkit.fixes.catalogue import snat, snat_notrack_both
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="SNAT + NOTRACK, incoming only",
    codes=frozenset({"reply-from-other-address"}),
    tradeoff="Two firewall rules for each client, address and port; no use where the server connects its "
    "listener, as nc does.",
    commands=[snat.RULE % "-A", snat_notrack_both.IN % "-A"],
    undo=[snat.RULE % "-D", snat_notrack_both.IN % "-D"],
)
