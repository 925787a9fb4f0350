"""What to do about a finding: each fix with its trade-off, how to apply it and how to undo it."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from udpkit.diagnosis import Finding
from udpkit.fixes import catalogue
from udpkit.fixes.exchanges import EXCHANGES, Exchange
from udpkit.fixes.fix import Fix, fill, values

__all__ = ["EXCHANGES", "FIXES", "Exchange", "Fix", "advise", "fill", "values"]

FIXES: dict[str, Fix] = {
    module.name.replace("_", "-"): importlib.import_module(f"{catalogue.__name__}.{module.name}").FIX
    for module in pkgutil.iter_modules(catalogue.__path__)
}
"""Every fix by its id."""


def advise(finding: Finding, verified: Mapping[str, bool] = MappingProxyType({})) -> Finding:
    """The finding with the fixes against it, unless they name what the finding does not know.

    `verified` tells by id which of those that were tried helped.
    """
    offers = [
        offer
        for fix_id, fix in FIXES.items()
        if fix.is_for(finding)
        and not fix.folklore
        and (offer := fix.offer(fix_id, finding, verified=verified.get(fix_id)))
    ]
    return replace(finding, fixes=offers)
