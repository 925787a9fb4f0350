"""Building the hosts and links that an experiment names."""

from __future__ import annotations

from collections.abc import Mapping

from udpkit.lab.docker import start_engine
from udpkit.lab.experiment import HostPlan
from udpkit.lab.lab import Lab


def build(lab: Lab, plans: Mapping[str, HostPlan]) -> None:
    """Make the hosts with their interfaces, cables, sysctls, addresses, routes, rules and engine."""
    for name, plan in plans.items():
        host = lab.host(name)
        for sysctl, value in plan.sysctls.items():
            if ".default." in sysctl:  # what interfaces begin with
                host.sysctl(sysctl, value)
        for interface_name, interface in plan.interfaces.items():
            if interface.kind == "bridge":
                host.bridge(interface_name)
    laid: set[str] = set()
    for name, plan in plans.items():
        for interface_name, interface in plan.interfaces.items():
            if interface.link and interface.kind != "macvlan":
                far_host, _, far_interface = interface.link.partition(".")
                lab.link(lab.hosts[name], interface_name, lab.hosts[far_host], far_interface)
                laid |= {f"{name}.{interface_name}", interface.link}
    for name, plan in plans.items():
        host = lab.hosts[name]
        for interface_name, interface in plan.interfaces.items():
            if interface.kind == "cable" and f"{name}.{interface_name}" not in laid:
                lab.plug(host, interface_name)
    for name, plan in plans.items():
        for interface_name, interface in plan.interfaces.items():
            if interface.link and interface.kind == "macvlan":
                parent_host, _, parent = interface.link.partition(".")
                lab.macvlan(lab.hosts[name], interface_name, lab.hosts[parent_host], parent)
    for name, plan in plans.items():
        host = lab.hosts[name]
        for sysctl, value in plan.sysctls.items():
            if ".default." not in sysctl:
                host.sysctl(sysctl, value)
        for interface_name, interface in plan.interfaces.items():
            host.address(interface_name, *interface.addresses)
    for name, plan in plans.items():
        host = lab.hosts[name]
        for route in plan.routes:
            host.ip(f"route add {route}")
        for rule in plan.rules:
            host.ip(f"rule add {rule}")
        if plan.docker:
            start_engine(host, plan.docker.programs, plan.docker.options)
        for command in plan.commands:
            host.shell(command)
