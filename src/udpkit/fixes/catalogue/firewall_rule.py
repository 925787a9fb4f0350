"""A firewall or a route forbids it: find the rule, and let this traffic pass before it."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="a rule that lets it pass",
    codes=frozenset({"prohibited"}),
    tradeoff="Opens the port to whomever the rule lets through; gone after a reboot if the firewall's own "
    "program does not know of it.",
    advice="on the host that refuses, find the rule ({iptables}-save | grep REJECT; nft list ruleset; {ip} "
    "route show type prohibit); then let the traffic pass before it: {iptables} -I INPUT -p udp -d "
    "{address} --dport {port} -j ACCEPT (on a router: FORWARD)",
    servers=NOT_TRIED,
)
