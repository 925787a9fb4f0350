"""Nobody has the port: start the program that should, on an address that clients ask."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="start the server",
    codes=frozenset({"nobody-listens"}),
    tradeoff="None, if the program belongs there; the port may as well be wrong, or the program live in a "
    "container whose port is not published.",
    for_notes=False,
    advice="on {address}, look who has the port (ss -aunp 'sport = :{port}'); if nobody has, why the program "
    "ended (journalctl), and start it on {server} or {anywhere}",
    servers=NOT_TRIED,
)
