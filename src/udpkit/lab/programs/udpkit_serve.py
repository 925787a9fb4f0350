"""The plain server of talk.py, written with udpkit.sockets: `udpkit_serve.py ADDRESS PORT`."""

import os
import select
import sys

from udpkit.sockets import Datagram, Socket


def main(address: str, port: int) -> None:
    request: Datagram | None = None
    with Socket(address, port) as server:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(server, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if server.fileno() in ready:
                request = server.recv()
                os.write(1, request.data)
            if 0 in ready:
                data = os.read(0, 65535)
                if not data:
                    return
                if request:
                    server.reply(request, data)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
