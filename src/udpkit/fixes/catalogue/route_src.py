"""Give the route to the client the source address that it asks."""

from udpkit.fixes.fix import Fix

# `ip route get fibmatch` prints the entry that ip_route_output() picks. Its copy with another source goes
# before it: among IPv4 routes by its place, among IPv6 ones by its metric. The entry itself stays, so that
# undoing is exact.
COPY = (
    "$({ip} route get fibmatch {client} | sed -E 's/ (src [^ ]*|linkdown)//g; s/ metric [0-9]*/ metric 1/') "
    "src {address}"
)

FIX = Fix(
    title="route with src",
    codes=frozenset({"reply-from-other-address", "listener-locked-to-first-peer"}),
    tradeoff="Clients behind that route that ask {actual} are answered from {address} from then on; "
    "gone after a reboot.",
    commands=[f"{{ip}} route prepend {COPY}"],
    undo=[f"{{ip}} route del {COPY}"],
)
