"""Nobody has the port: start the program that should, on an address that clients ask."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="start the server",
    codes=frozenset({"nobody-listens"}),
    tradeoff="None, if the program belongs there; the port may as well be wrong, or the program live in a "
    "container whose port is not published.",
    advice="on {address}, look who has the port (ss -lunp 'sport = :{port}') and why the program ended "
    "(journalctl); start it on {server} or {anywhere}",
    servers=NOT_TRIED,
)
