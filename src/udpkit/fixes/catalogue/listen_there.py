"""The program listens, but elsewhere: bind it to what clients ask."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="bind the server to what clients ask",
    codes=frozenset({"listens-elsewhere"}),
    tradeoff="On {anywhere} it can be reached on every address of the host: a firewall has to keep out who "
    "must not; on {server} it breaks when the address changes.",
    advice="bind the server to {server}, or to {anywhere}; or let clients ask the address that it has",
    servers=NOT_TRIED,
)
