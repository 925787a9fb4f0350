"""A UDP server as most are written: it answers from whatever address the route prefers."""

import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 7007))
while True:
    request, client = server.recvfrom(65535)
    server.sendto(request.upper(), client)
