"""Which fix for this case: all that are against a finding, the best first, each with why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from shlex import quote

from udpkit.diagnosis import Finding
from udpkit.fixes import FIXES

ATTACH = "attach"
"""The fix that is put under the program."""

PREFERENCE: Mapping[str, str] = {
    "drop-stale-conntrack": "only the entry that is wrong goes; nothing else is touched",
    "sockets": "if you can change the program: right on every address, whatever the routes are",
    "bind-known": "if you can change its configuration: no change to the program or the host",
    "attach": "if nobody can change the program: it then answers each client from the address that was asked",
    "route-src": "on the host: where all clients behind one route ask the same address",
    "snat-notrack-incoming": "on the host: for single clients, and programs that do not connect their socket",
    "rp-filter-loose": "on the host: where the way back may differ from the way in",
    "receive-buffer": "on the host and in the program: where bursts are the trouble",
    "bind": "if its command line or configuration can name an address, and clients ask no other",
    "tcp": "if both programs can",
}
"""Why one would take it, the best first; what is not here comes after."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One fix. `obstacle` says why it cannot be had here; empty if it can, or nobody knows.

    `verified` says whether it helped in a lab copy of the host, None where that was not tried or told
    nothing, and `seen` what was seen there.
    """

    id: str
    command: str
    why: str
    tradeoff: str
    obstacle: str = ""
    verified: bool | None = None
    seen: str = ""


def choices(finding: Finding, *, where: Mapping[str, object], obstacles: Mapping[str, str]) -> list[Advice]:
    """All fixes against it: those that can be had, then the others.

    `where` has the options that say on which host, by name; `obstacles` says by fix why it cannot be had.
    """
    if pid := where.get("pid"):
        finding = replace(finding, process=f"{finding.process or ''}[{pid}]")
    found: dict[str, Advice] = {}
    for fix_id, fix in FIXES.items():
        offer = fix.offer(fix_id, finding) if fix.is_for(finding) and not fix.folklore else None
        if offer is None:
            continue
        rank = f"{fix_id}-known" if fix.known(finding) else fix_id
        command = apply_line(fix_id, finding, where) if fix.commands else offer.command
        found[rank] = Advice(
            fix_id, command, PREFERENCE.get(rank, fix.title), offer.tradeoff, obstacles.get(fix_id, "")
        )
    order = [*PREFERENCE]
    ranked = sorted(found, key=lambda one: order.index(one) if one in order else len(order))
    return sorted((found[one] for one in ranked), key=lambda advice: bool(advice.obstacle))


def apply_line(fix_id: str, finding: Finding, where: Mapping[str, object]) -> str:
    """What to type to apply a fix for this finding, without its file."""
    ends = {"server": finding.server, "client": finding.client, "actual": finding.actual}
    return f"udpkit fix apply {fix_id}{options({**ends, **where})}"


def options(values: Mapping[str, object]) -> str:
    """Those that have a value, as one types them."""
    return "".join(f" --{name} {quote(str(value))}" for name, value in values.items() if value)
