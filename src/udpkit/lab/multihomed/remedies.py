"""What makes a server right that answered from elsewhere."""

from __future__ import annotations

import shlex
from dataclasses import replace

from udpkit.diagnosis import Finding
from udpkit.fixes.choosing import ATTACH, Advice, choices
from udpkit.lab.multihomed.matrix import Matrix

IN_THE_SERVER = ("sockets", "bind", ATTACH)
"""Fixes that do not depend on the routes of one host."""


def remedies(matrix: Matrix) -> list[Advice]:
    """The best first; none if no answer came from elsewhere."""
    wrong = matrix.first_wrong()
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
    )
    run = f"udpkit fix run -- {shlex.join(matrix.command)}"
    return [
        replace(one, command=run) if one.id == ATTACH else one
        for one in choices(finding, where={}, obstacles={})
        if one.id in IN_THE_SERVER
    ]
