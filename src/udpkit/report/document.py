"""The JSON documents, version 1."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec

from udpkit.diagnosis import Finding
from udpkit.facts import Reference, Source

if TYPE_CHECKING:
    from udpkit.lab.prove import Proof
    from udpkit.lab.run import Result

SCHEMA = 1


def lab_document(results: Sequence[Result]) -> dict[str, Any]:
    """What `udpkit lab --json` prints."""
    return {"schema": SCHEMA, "experiments": [_experiment(result) for result in results]}


def findings_document(
    sources: Sequence[Source], findings: Sequence[Finding], unjudged: int = 0
) -> dict[str, Any]:
    """What `read` and `check` print with `--json`; `unjudged` only where conversations were left out."""
    return {
        "schema": SCHEMA,
        "sources": [source_document(source) for source in sources],
        "findings": [finding_document(finding) for finding in findings],
        **({"unjudged": unjudged} if unjudged else {}),
    }


def _experiment(result: Result) -> dict[str, Any]:
    return {
        "name": result.experiment.name,
        "result": result.result,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
        "sources": [source_document(source) for source in result.played.case.sources]
        if result.played
        else [],
        "findings": [finding_document(finding) for finding in result.findings],
        "fixes": [proof_document(proof) for proof in result.proofs],
    }


def proof_document(proof: Proof) -> dict[str, Any]:
    """How a fix fared in each exchange, and what was seen."""
    return {
        "id": proof.id,
        **{exchange: trial.outcome for exchange, trial in proof.trials.items()},
        "seen": proof.seen(),
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding, as every verb writes it."""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "summary": finding.summary,
        "client": str(finding.client) if finding.client else None,
        "server": str(finding.server) if finding.server else None,
        "actual": None if finding.actual is None else str(finding.actual),
        "process": finding.process,
        "count": finding.count,
        "first": _time(finding.first),
        "last": _time(finding.last),
        "why": list(finding.why),
        "evidence": [_reference(reference) for reference in finding.evidence],
        "fixes": [msgspec.to_builtins(offer) for offer in finding.fixes],
    }


def source_document(source: Source) -> dict[str, Any]:
    """One source; `unread` and `damage` only where there is some."""
    document: dict[str, Any] = msgspec.to_builtins(source)
    del document["last_ns"]
    for rare in ("unread", "damage"):
        if not document[rare]:
            del document[rare]
    return document


def _reference(reference: Reference) -> dict[str, int]:
    where = {"packet": reference.packet} if reference.packet is not None else {"line": reference.line or 0}
    return {"source": reference.source, **where}


def _time(nanoseconds: int | None) -> str | None:
    """RFC 3339 in UTC, to the microsecond."""
    if nanoseconds is None:
        return None
    moment = datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1000 % 10**6:06d}Z"
