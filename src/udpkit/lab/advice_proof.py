"""What a lab copy of a host shows of each fix that is advised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from udpkit.diagnosis import Finding
from udpkit.evidence.namespaces import Namespace
from udpkit.fixes import FIXES
from udpkit.fixes.choosing import Advice
from udpkit.lab.errors import LabError, LabUnavailable
from udpkit.lab.mirror_proof import PROGRAM, prove_in_mirror
from udpkit.lab.prove import UNTRIED, Proof

UNSEEN = "with nothing changed the fault does not show there"


@dataclass(slots=True)
class Shown:
    """What was seen in the copy. `proofs`: the first is `none`, nothing changed; empty if nothing was tried.

    `notes` say why, or what is not as on the host.
    """

    advice: list[Advice]
    proofs: list[Proof] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def show_in_mirror(
    namespace: Namespace,
    finding: Finding,
    advice: Sequence[Advice],
    process: int | None,
    progress: Callable[[int, int], object],
) -> Shown:
    """The advice, with what was seen of each fix that can be had.

    Raises LabUnavailable, NoIp, OSError; whatever else goes wrong is a note.
    """
    ids = [one.id for one in advice if not one.obstacle and can_be_tried(one.id)]
    if not ids:
        return Shown([*advice], notes=["no fix for this can be tried in a lab copy"])
    try:
        proof = prove_in_mirror(namespace, finding, ids, process=process, progress=progress)
    except LabUnavailable:
        raise
    except LabError as error:
        return Shown([*advice], notes=[str(error)])
    verified = proof.verified()
    fails = any(trial.outcome == "fails" for trial in proof.proofs[0].trials.values())
    seen = {one.id: words_of(one) if fails else UNSEEN for one in proof.proofs}
    return Shown(
        [replace(one, verified=verified.get(one.id), seen=seen.get(one.id, "")) for one in advice],
        proof.proofs,
        proof.notes,
    )


def words_of(proof: Proof) -> str:
    """What was seen; a fix in the server cannot be tried with the real one."""
    trial = proof.trials.get(PROGRAM)
    return f"plain servers: {proof.seen()}" if trial == UNTRIED else proof.seen()


def can_be_tried(fix_id: str) -> bool:
    """In an exchange between a client and a server that answers."""
    fix = FIXES[fix_id]
    return fix.tried and (not fix.servers or any(fix.servers.values()))
