"""Take what comes by another interface than the one that leads back to its sender."""

from udpkit.fixes.fix import Fix

FIX = Fix(
    title="loose reverse path filter",
    codes=frozenset({"dropped-by-rp-filter"}),
    tradeoff="A forged source address is then refused only if there is no route to it at all. Gone after a "
    "reboot. To stay strict, give the host a route to {client} by the interface through which it comes.",
    advice="sysctl -w net.ipv4.conf.all.rp_filter=2 (note the old value first: sysctl "
    "net.ipv4.conf.all.rp_filter)",
    tried=False,
)
"""2 for `all` is enough: the greater of it and the interface's own counts."""
