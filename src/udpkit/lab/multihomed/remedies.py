"""What makes a server right that answered from elsewhere."""

from __future__ import annotations

import shlex
from dataclasses import replace

from udpkit.diagnosis import Finding
from udpkit.facts import Endpoint
from udpkit.fixes.choosing import ATTACH, Advice, choices
from udpkit.lab.multihomed.matrix import Matrix, Trial

IN_THE_SERVER = ("sockets", "bind", ATTACH)
"""Fixes that do not depend on the routes of one host."""


def remedies(matrix: Matrix) -> list[Advice]:
    """The best first; none if no answer came from elsewhere."""
    # Of the wildcard's family, if there is one: a setting for the other would not fit its command line.
    wrong, listener = min(matrix.wrong(), key=_is_of_another_family, default=(None, None))
    if wrong is None:
        return []
    finding = Finding(
        code="listener-locked-to-first-peer" if matrix.locks else "reply-from-other-address",
        severity="error",
        summary="",
        client=None,
        server=wrong.asked,
        actual=wrong.actual,
        process=matrix.process.partition(":")[0] or None,  # nsd calls itself `nsd: server 1`
        count=1,
        first=None,
        last=None,
        why=(),
        evidence=(),
        listener=listener,
    )
    run = f"udpkit fix run -- {shlex.join(matrix.command)}"
    return [
        replace(one, command=run) if one.id == ATTACH else one
        for one in choices(finding, where={}, obstacles={})
        if one.id in IN_THE_SERVER
    ]


def _is_of_another_family(wrong: tuple[Trial, Endpoint | None]) -> bool:
    trial, listener = wrong
    return listener is not None and listener.address.version != trial.asked.address.version
