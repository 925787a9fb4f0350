"""Nothing on the way has to fragment, or to put together, what fits every link."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="send smaller datagrams",
    codes=frozenset({"datagram-too-big", "fragment-lost"}),
    tradeoff="More datagrams for the same data; the protocol must know how to split it (DNS then turns to "
    "TCP).",
    advice="let {server} and its clients send at most {payload} bytes of payload, as {passes} (DNS: "
    "edns-buffer-size {payload}); or give the tunnel's MTU to the interface and let ICMP through, so that "
    "path MTU discovery works",
    servers=NOT_TRIED,
)
