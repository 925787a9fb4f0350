"""Delete the one conntrack entry that keeps a flow from its new way."""

from udpkit.fixes.fix import Fix

FIX = Fix(
    title="delete the stale conntrack entry",
    codes=frozenset({"stale-conntrack"}),
    tradeoff="Only this flow: its next datagram makes a new entry by today's rules. Answers that are on "
    "their way by the old one are lost.",
    commands=[
        "conntrack -D -f {family} -p udp --orig-src {client} --orig-dst {address} --sport {client_port} "
        "--dport {port}"
    ],
    tried=False,
)
