"""Find the rule that drops; what to do with it is for whoever wrote it."""

from udpkit.fixes.fix import Fix

FIX = Fix(
    title="find the firewall rule and accept",
    codes=frozenset({"dropped-by-firewall"}),
    tradeoff="Whoever wrote the rule may have meant it. A rule that accepts {address} port {port} lets in "
    "everybody whom it does not exclude.",
    advice="find the rule: {iptables} -t raw -I PREROUTING -p udp --dport {port} -j TRACE (for what this "
    "host sends: OUTPUT instead), then xtables-monitor --trace names table, chain and rule of every "
    "datagram; take it back with -D instead of -I. Accept before it: {iptables} -I INPUT -p udp -d {address} "
    "--dport {port} -j ACCEPT",
    tried=False,
)
