"""The same with udpkit's socket: it answers from the address that was asked."""

from udpkit import Socket

with Socket("", 7007) as server:
    while True:
        request = server.recv()
        server.reply(request, request.data.upper())
