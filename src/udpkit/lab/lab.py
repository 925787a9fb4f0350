"""Real Linux hosts in network namespaces, with or without root."""

from __future__ import annotations

import itertools
from types import TracebackType

from udpkit.lab.control import Control
from udpkit.lab.errors import LabError
from udpkit.lab.host import Host


class Lab:
    """A set of hosts and the links between them; a context manager.

    >>> with Lab() as lab:  # doctest: +SKIP
    ...     server, client = lab.host("server"), lab.host("client")
    ...     lab.link(client, "eth0", server, "eth0")
    ...     server.address("eth0", "192.0.2.1/24")
    ...     client.address("eth0", "192.0.2.2/24")
    ...     client.shell("ping -c 1 192.0.2.1")

    With `user_namespace` it is in a user namespace for root too, as a Docker engine wants it.
    Everything is gone when it closes, and when this process ends in whatever way. Raises LabUnavailable.
    """

    def __init__(self, *, user_namespace: bool = False) -> None:
        self._control = Control(user_namespace=user_namespace)
        self.hosts: dict[str, Host] = {}
        self._beyond: Host | None = None
        self._ports = itertools.count()

    def host(self, name: str) -> Host:
        """Make a host with nothing but a loopback interface, which is up."""
        if name in self.hosts:
            raise LabError(f"there is a host called {name} already")
        host = self.hosts[name] = Host(self._control, name)
        return host

    def link(self, host: Host, interface: str, other: Host, other_interface: str) -> None:
        """Lay a cable (veth(4)) between two hosts.

        An end that names a bridge is plugged into it, as a port with a name of its own.
        """
        ends = [(host, interface), (other, other_interface)]
        ports = [f"port{next(self._ports)}" if near.has_bridge(name) else name for near, name in ends]
        host.ip(f"link add name {ports[0]} type veth peer name {ports[1]} netns {other.namespace}")
        for (near, name), port in zip(ends, ports, strict=True):
            near.ip(f"link set dev {port} up" if port == name else f"link set dev {port} master {name} up")

    def macvlan(self, host: Host, interface: str, parent: Host, parent_interface: str) -> None:
        """Give a host an interface of its own on another host's, in macvlan's bridge mode."""
        where = f"link {parent_interface} netns {host.namespace}"
        parent.ip(f"link add name {interface} {where} type macvlan mode bridge")

    def plug(self, host: Host, interface: str) -> None:
        """Give a host an interface that has a carrier and leads to a network where nobody is.

        Its far end lies in a namespace of its own: not every kernel has dummy interfaces.
        """
        if self._beyond is None:
            self._beyond = Host(self._control, "beyond")
        self.link(host, interface, self._beyond, f"port{next(self._ports)}")

    def close(self) -> None:
        try:
            for host in self.hosts.values():
                host.close()
        finally:
            self._control.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
