"""Take what comes by another interface than the one that leads back to its sender."""

from udpkit.fixes.fix import Check, Fix

NAME = "net.ipv4.conf.all.rp_filter"

FIX = Fix(
    title="loose reverse path filter",
    codes=frozenset({"dropped-by-rp-filter"}),
    tradeoff="A forged source address is then refused only if there is no route to it at all; interfaces "
    "that had no filter get this one. Gone after a reboot. To stay strict, give the host a route to {client} "
    "by the interface through which it comes.",
    remembers={"rp_filter": f"sysctl -n {NAME}"},
    commands=[f"sysctl -w {NAME}=2"],
    # What somebody else has set meanwhile stays.
    undo=[f'test "$(sysctl -n {NAME})" = 2 && sysctl -w {NAME}={{rp_filter}}'],
    checks=[Check(asks=f"sysctl -n {NAME}", wants="^2$")],
    once="-",
    tried=False,
)
"""2 for `all` is enough: the greater of it and the interface's own counts."""
