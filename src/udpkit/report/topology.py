"""The hosts of an experiment and the cables between them, drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from udpkit.lab.experiment import HostPlan


def topology(hosts: Mapping[str, HostPlan]) -> Iterator[str]:
    """Lines of text: each host with its interfaces, and on an interface's right what its cables lead to."""
    drawn: set[str] = set()
    for name, plan in sorted(hosts.items(), key=lambda host: -_cables_to(host[0], hosts)):
        if plan.interfaces and drawn.issuperset(f"{name}.{interface}" for interface in plan.interfaces):
            continue  # it stands at the right of others already
        yield _head(name, plan)
        widths = _Widths(plan)
        for interface in plan.interfaces:
            near = f"{name}.{interface}"
            far_ends = _ends(near, hosts)
            left = widths.line(interface, plan)
            if not far_ends:
                yield f"  {left}".rstrip()
            for number, end in enumerate(far_ends):
                lead = left if number == 0 else " " * len(left)
                far = end.partition(".")[0] if end in drawn else _far(end, hosts)
                yield f"  {lead} {_corner(number, len(far_ends))}── {far}"
            drawn |= {near, *far_ends}


class _Widths:
    """Columns of a host's interfaces: name, addresses."""

    def __init__(self, plan: HostPlan) -> None:
        self.name = max((len(name) for name in plan.interfaces), default=0)
        self.addresses = max((len(_addresses(plan, name)) for name in plan.interfaces), default=0)

    def line(self, name: str, plan: HostPlan) -> str:
        return f"{name:<{self.name}}  {_addresses(plan, name):<{self.addresses}}"


def _addresses(plan: HostPlan, name: str) -> str:
    interface = plan.interfaces[name]
    kind = [] if interface.kind == "cable" else [f"({interface.kind})"]
    return " ".join([*interface.addresses, *kind])


def _corner(number: int, cables: int) -> str:
    if cables == 1:
        return "─"
    return "┬" if number == 0 else "└" if number == cables - 1 else "├"


def _cables_to(name: str, hosts: Mapping[str, HostPlan]) -> int:
    links = [interface.link for plan in hosts.values() for interface in plan.interfaces.values()]
    return sum(1 for link in links if link and link.partition(".")[0] == name)


def _ends(near: str, hosts: Mapping[str, HostPlan]) -> list[str]:
    """The interfaces at the other ends of the cables that are plugged in here."""
    name, _, interface = near.partition(".")
    own = hosts[name].interfaces[interface].link
    others = [
        f"{other}.{far}"
        for other, plan in hosts.items()
        for far, far_interface in plan.interfaces.items()
        if far_interface.link == near
    ]
    return [*([own] if own else []), *others]


def _far(end: str, hosts: Mapping[str, HostPlan]) -> str:
    name, _, interface = end.partition(".")
    plan = hosts[name]
    addresses = _addresses(plan, interface) if interface in plan.interfaces else ""
    return f"{_head(name, plan)}  {interface}  {addresses}".rstrip()


def _head(name: str, plan: HostPlan) -> str:
    routes = f" ({', '.join(plan.routes)})" if plan.routes else ""
    return f"{name}{routes}"
