"""Bring the answer back to the host whose NAT the client asked."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="masquerade what goes back to the link that it came from",
    codes=frozenset({"reply-from-other-address"}),
    asked="translated",
    tradeoff="The server then sees the translating host as its client, for what the rule takes.",
    advice="on the host that translates {address}: {iptables} -t nat -A POSTROUTING -p udp -s {client} -d "
    "{actual} -j MASQUERADE, so that the answer comes back there; where both are on a bridge of that host, "
    "sysctl -w net.bridge.bridge-nf-call-iptables=1 does it, too, and keeps the client's address; or let the "
    "client ask {actual} itself",
    servers=NOT_TRIED,
)
"""Both are tried in the experiment published-port-hairpin-works."""
