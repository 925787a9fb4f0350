"""Give the route to the client the source address that it asks."""

from udpkit.fixes.fix import Fix

# The route as it is, less its source: `ip route get fibmatch` prints the entry that ip_route_output() picks.
ROUTE = "$({ip} route get fibmatch {client} | sed 's/ src [^ ]*//')"

FIX = Fix(
    title="route with src",
    codes=frozenset({"reply-from-other-address", "listener-locked-to-first-peer"}),
    tradeoff="Clients behind that route that ask {actual} are answered from {address} from then on; "
    "gone after a reboot.",
    commands=[f"{{ip}} route replace {ROUTE} src {{address}}"],
    undo=[f"{{ip}} route replace {ROUTE} src {{actual}}"],
)
