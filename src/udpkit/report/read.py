"""What was read, and what it says, on a terminal or in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from udpkit.diagnosis import Finding
from udpkit.facts import Case, Source
from udpkit.facts.text import in_one_line
from udpkit.report.findings import show_diagnosis

KINDS = {
    "pcap": "pcap",
    "pcapng": "pcapng",
    "tcpdump": "tcpdump text",
    "strace": "strace log",
    "sockets": "socket table",
}
"""What a source's `kind` is called."""

UNITS = {"strace": "system calls", "sockets": "sockets"}
"""What is counted as `packets` of a source that has none."""


def show_case(out: Console, case: Case, findings: Sequence[Finding]) -> None:
    """Each source with what was understood of it, the findings, and what to do about them."""
    for source in case.sources:
        _show_source(out, source)
    if case.unjudged:
        out.print(f"not judged: {case.unjudged} more conversations with something remarkable", style="yellow")
    show_diagnosis(out, findings, case.sources)


def _show_source(out: Console, source: Source) -> None:
    counts = [f"{source.packets} {UNITS.get(source.kind, 'packets')}"]
    if source.kind not in UNITS:
        counts += [f"{source.datagrams} UDP datagrams", f"{source.icmp_errors} ICMP errors about UDP"]
    line = Text.assemble((in_one_line(source.path), "bold"), f": {KINDS[source.kind]}: {', '.join(counts)}")
    out.print(line, soft_wrap=True)
    for reason, count in source.unread.items():
        out.print(Text(f"  not read: {in_one_line(reason)}: {count}", "yellow"), soft_wrap=True)
    for place in source.damage:
        out.print(Text(f"  {in_one_line(place)}", "yellow"), soft_wrap=True)
