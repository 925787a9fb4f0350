"""Serve every client, and not only the first."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="a server that does not connect its listener",
    codes=frozenset({"listener-locked-to-first-peer"}),
    asked="second",
    tradeoff="The program must be changed, or another one take its place.",
    advice="in the server, do not connect() the socket that listens (udpkit.sockets.Socket answers each "
    "client from the address that was asked), or use a program that serves all clients: udpkit nc -ulk "
    "{port}; socat: UDP-RECVFROM:{port},fork",
    otherwise="in the server, do not connect() the socket that listens (udpkit.sockets.Socket answers each "
    "client from the address that was asked), or use a program that serves all clients (udpkit nc -ulk; "
    "socat: UDP-RECVFROM with fork)",
    servers=NOT_TRIED,
)
