"""The NAT rules of a namespace, listed by the programs that it has for them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from udpkit.evidence.nat.iptables import add_iptables
from udpkit.evidence.nat.nft import add_nft
from udpkit.evidence.nat.rules import FAMILIES, RuleSet
from udpkit.evidence.programs import find, output


def read_rules() -> RuleSet | None:
    """Those of the calling thread's namespace; None if they cannot be read, or are not all there is."""
    if has_ipvs():
        return None
    rules = RuleSet()
    by_iptables: set[str] = set()
    for family, program in (("ip", "iptables"), ("ip6", "ip6tables")):
        for variant in savers(family, program, "nat"):
            text = output(variant, "-t", "nat")
            if text is None:
                return None
            if "*nat" in text:
                by_iptables.add(family)
                add_iptables(rules, text, f"{Path(variant).name} ", FAMILIES[family])
    if nft := find("nft"):
        text = output(nft, "-j", "list", "ruleset")
        if text is None:
            return None
        try:
            add_nft(rules, text, by_iptables)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None  # a syntax that is not ours
    elif not by_iptables and not find("iptables-save"):
        return None
    return rules


def savers(family: str, program: str, table: str = "") -> list[str]:
    """The programs that list rules without loading a module: the old kind's only where its table is there.

    `family`: ip or ip6, `program`: iptables or ip6tables. Without `table`: where it has any.
    """
    loaded = False
    with suppress(OSError):
        names = Path(f"/proc/thread-self/net/{family}_tables_names").read_text().split()
        loaded = table in names if table else bool(names)
    found: dict[str, str] = {}
    for name in (f"{program}-nft-save", f"{program}-legacy-save", f"{program}-save"):
        path = find(name)
        if path and (loaded or "legacy" not in os.path.realpath(path)):
            found.setdefault(f"{os.path.realpath(path)}", path)
    if any("nft" in one for one in found):  # the plain name is one of the two
        return [path for path in found.values() if "-nft-" in path or "-legacy-" in path] or list(
            found.values()
        )
    return list(found.values())


def has_ipvs() -> bool:
    with suppress(OSError):
        return len(Path("/proc/thread-self/net/ip_vs").read_text().splitlines()) > 3
    return False
