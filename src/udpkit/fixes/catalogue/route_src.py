"""Give the route to the client the source address that it asks."""

from udpkit.fixes.fix import Check, Fix

# `ip route get fibmatch` prints the entry that ip_route_output() picks. Its copy with another source goes
# before it: among IPv4 routes by its place, among IPv6 ones by its metric. The entry itself stays, so that
# undoing is exact. The source stands before next hops, which end a route.
COPY = (
    "{ip} route get fibmatch {peer} | sed -E 's/ (src [^ ]*|expires [^ ]*|linkdown)//g; "
    "s/ metric [0-9]*/ metric 1/; 1s/^[^ ]+/& src {address}/'"
)

FIX = Fix(
    title="route with src",
    codes=frozenset(
        {"reply-from-other-address", "listener-locked-to-first-peer", "wildcard-without-pktinfo"}
    ),
    asked="one",
    tradeoff="Clients behind that route that ask {actual} are answered from {address} from then on, and what "
    "this host sends there on its own leaves from {address}, TCP too; gone after a reboot.",
    remembers={"route": COPY, "routed": "{ip} route get fibmatch {peer} | sed '1!d; s/ .*//'"},
    commands=["{ip} route prepend {route}"],
    undo=["{ip} route del {route}"],
    checks=[Check(asks="{ip} route get {peer}", wants=r"\bsrc {address}\s")],
    once="{ip} {routed}",
    local=["address"],
)
