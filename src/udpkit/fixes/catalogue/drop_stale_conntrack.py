"""Delete the one conntrack entry that keeps a flow from its new way."""

from udpkit.fixes.fix import Check, Fix

ENTRY = (
    "-f {family} -p udp --orig-src {peer} --orig-dst {address} --sport {client_port} --dport {port} "
    "--reply-src {actual}"
)

FIX = Fix(
    title="delete the stale conntrack entry",
    codes=frozenset({"stale-conntrack"}),
    tradeoff="Only this flow: its next datagram makes a new entry by today's rules. Answers that are on "
    "their way by the old one are lost.",
    commands=[f"conntrack -D {ENTRY}"],
    # The flow may have made its new entry at once: that has another number.
    checks=[Check(asks=f"conntrack -L -o id {ENTRY}", wants=r"\bid=\d+", gone=True)],
    tried=False,
)
