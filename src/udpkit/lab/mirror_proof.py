"""A finding's exchange in a lab copy of the host that it was found on, before and after each fix."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from udpkit.diagnosis import Finding
from udpkit.evidence.configuration import Configuration, read_configuration
from udpkit.evidence.host_sockets import host_sockets
from udpkit.evidence.namespaces import Namespace, inside
from udpkit.evidence.owners import socket_holders
from udpkit.evidence.routes import choice_for
from udpkit.facts import Endpoint, SourceChoice
from udpkit.fixes import EXCHANGES, fill
from udpkit.fixes.choosing import ATTACH
from udpkit.lab import again, mirror
from udpkit.lab.again import Remembered
from udpkit.lab.commands import FIX_RUN
from udpkit.lab.errors import CommandFailed, LabError, LabUnavailable, TimedOut
from udpkit.lab.experiment import Expect, Experiment, Fate, FixesPlan, ProgramPlan, Say, Start
from udpkit.lab.host import Host
from udpkit.lab.lab import Lab
from udpkit.lab.mirror import Mirror
from udpkit.lab.play import SILENCE, Player
from udpkit.lab.program import Program
from udpkit.lab.prove import REMEDIES, UNTRIED, Proof, Stage, Trial, at_once, judge, prove
from udpkit.lab.waiting import Cancel, wait_until
from udpkit.probe.payload import payload_for

PROGRAM = "program"
"""The exchange with the real program, beside `EXCHANGES`."""
INSTEAD = "plain servers ran in its place"
UNANSWERED = Trial("fails", "no answer")
PATIENCE = 20
"""Seconds that it has to open its port."""


@dataclass(slots=True)
class MirrorProof:
    """`proofs`: the first is `none`, nothing changed; then one for each fix. `notes`: what is not as
    on the host.

    `trials` are by exchange; where the real program could be started again, `program` is one of them.
    """

    proofs: list[Proof]
    notes: list[str] = field(default_factory=list)

    def verified(self) -> dict[str, bool]:
        """For `udpkit.fixes.advise`: whether each fix helped, in the first exchange that tells.

        What did not fail in the copy with nothing changed tells nothing.
        """
        before, *after = self.proofs
        failed = [name for name, trial in before.trials.items() if trial.outcome == "fails"]
        told = {
            proof.id: [proof.trials[name].outcome for name in failed if proof.trials[name].outcome]
            for proof in after
        }
        return {fix_id: outcomes[0] == "works" for fix_id, outcomes in told.items() if outcomes}


def prove_in_mirror(
    namespace: Namespace,
    finding: Finding,
    fix_ids: Sequence[str],
    *,
    process: int | None = None,
    request: bytes | None = None,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> MirrorProof:
    """Play the finding's exchange in copies of a namespace, with nothing changed and with each fix.

    `fix_ids` are those of the catalogue, and `attach`, for which `udpkit fix run` starts the server.
    `process` is the server's; without it whoever waits on the port is. `request` is what it is asked; without
    it what the service that has its port by custom answers to. `progress` is called with the trials done and
    those there are. Raises LabError, NoIp, and OSError if the namespace cannot be entered.
    """
    original = read_configuration(namespace)
    finding, choice = inside(namespace, lambda: _fitted(finding, original))
    stage = partial(_stage, original=original, choice=choice)
    with Lab() as lab:
        notes = stage(lab).notes
    experiment = _experiment(finding, "client1" if choice else mirror.COPY)
    remembered = _remembered(namespace, finding, process, notes)
    everything = dict.fromkeys(["none", *fix_ids])
    total = len(everything) * (len(EXCHANGES) + (remembered is not None))
    done = itertools.count(1)

    def tried() -> None:
        progress(next(done), total)

    progress(0, total)
    plan = FixesPlan("server", "client", "", {one: dict.fromkeys(EXCHANGES, "works") for one in everything})
    proofs = prove(experiment, plan, finding, tried, stage)
    if remembered is None:
        return MirrorProof(proofs, notes)

    asked = payload_for(_port(finding)).data if request is None else request

    def with_program(proof: Proof) -> Trial | str:
        trial = _try_program(experiment, finding, proof.id, remembered, stage, asked, cancel)
        tried()
        return trial

    with at_once() as (pool, cancel):
        trials = list(pool.map(with_program, proofs))
    return MirrorProof(_joined(proofs, trials, remembered.argv[0], _port(finding), notes), notes)


def _joined(
    proofs: list[Proof], trials: Sequence[Trial | str], name: str, port: int, notes: list[str]
) -> list[Proof]:
    """The proofs with the real program's trials; as they are, and with a note, where those tell nothing."""
    missing = f"{name} does not open port {port} in the copy"
    if isinstance(trials[0], str):
        notes.append(f"{missing} ({trials[0]}): {INSTEAD}")
        return proofs
    if all(trial in (UNTRIED, UNANSWERED) for trial in trials):
        notes.append(f"{name} does not answer what it is asked here: {INSTEAD}")
        return proofs
    told = [Trial(None, f"{missing} ({one})") if isinstance(one, str) else one for one in trials]
    return [
        replace(proof, trials={PROGRAM: trial, **proof.trials})
        for proof, trial in zip(proofs, told, strict=True)
    ]


def _stage(lab: Lab, original: Configuration, choice: SourceChoice | None) -> Mirror:
    return mirror.build(lab, original, [choice] if choice else [])


def _port(finding: Finding) -> int:
    return finding.server.port if finding.server else 0


def _fitted(finding: Finding, original: Configuration) -> tuple[Finding, SourceChoice | None]:
    """The finding with one address that is asked, and the way to its client; None: that is the host."""
    if finding.server is None or not finding.server.port:
        raise LabError(f"{finding.code} does not say which port was asked, so it cannot be played")
    own = {one.address for one in original.addresses}
    version = finding.server.address.version
    choice: SourceChoice | None
    if isinstance(finding.client, Endpoint):
        if finding.client.address in own:
            choice = None
        elif (choice := choice_for(finding.client.address)) is None:
            raise LabError(f"there is no route to {finding.client.address}, so it cannot be played")
    else:
        fitting = [one for one in original.choices if one.asked.version == version]
        same = [one for one in fitting if one.network == finding.client]
        if not fitting or (finding.client and not same):
            raise LabError(f"there is no route to {finding.client or 'anybody'}, so it cannot be played")
        choice = (same or fitting)[0]
    server = finding.server
    if server.address.is_unspecified:
        others = [
            one.address
            for one in original.addresses
            if one.address.version == version
            and not (one.address.is_loopback or one.address.is_link_local)
            and not (choice and one.address == choice.source)
        ]
        if not others:
            raise LabError("the host has no second address that could be asked, so it cannot be played")
        server = Endpoint(others[0], server.port)
    return replace(finding, server=server), choice


def _experiment(finding: Finding, client: str) -> Experiment:
    usual = EXCHANGES["connected"]
    return Experiment(
        title="",
        question="",
        hosts={},
        programs={
            "server": ProgramPlan(mirror.COPY, usual.server),
            "client": ProgramPlan(client, usual.client),
        },
        capture=[f"{client}.{'lo' if client == mirror.COPY else 'eth0'}"],
        steps=[
            Start("server", _port(finding)),
            Start("client"),
            Say("client", "server", "hello"),
            Say("server", "client", "world"),
            Say("client", "server", "hi"),
        ],
        expect=Expect([], []),
    )


def _remembered(
    namespace: Namespace, finding: Finding, process: int | None, notes: list[str]
) -> Remembered | None:
    if process is None:
        holders = inside(namespace, lambda: host_sockets(socket_holders())).entries
        asked = finding.server
        process = next(
            (
                one.pid
                for one in holders
                if one.pid
                and asked
                and one.local.port == asked.port
                and (one.local.address.is_unspecified or one.local.address == asked.address)
            ),
            None,
        )
    if process is None:
        notes.append(f"nobody who could be looked at waits on port {_port(finding)}: {INSTEAD}")
        return None
    try:
        return again.remember(process)
    except OSError as error:
        notes.append(f"process {process}: {error.strerror}: {INSTEAD}")
        return None


def _try_program(
    experiment: Experiment,
    finding: Finding,
    fix_id: str,
    remembered: Remembered,
    stage: Stage,
    request: bytes,
    cancel: Cancel,
) -> Trial | str:
    """With the real program; if it does not come up, what it said last."""
    fix = REMEDIES[fix_id]
    if fix_id != ATTACH and (fix.servers or fix.clients):
        return UNTRIED
    under = FIX_RUN if fix_id == ATTACH else []
    placeholders = fix.placeholders(finding)
    port = _port(finding)
    try:
        with Lab() as lab:
            stage(lab)
            copy = lab.hosts[mirror.COPY]
            for line in fix.commands:
                copy.shell(fill(line, placeholders))
            if remembered.real_root and remembered.uid:  # it may have had the right from who started it
                copy.sysctl("net.ipv4.ip_unprivileged_port_start", 0)
            player = Player(lab, experiment, {}, [cancel])
            player.lines["client"] = fill(EXCHANGES["connected"].client, placeholders)
            server = player.running["server"] = again.start(copy, remembered, under)
            try:
                if words := _not_up(copy, server, port):
                    return words
                player.start(Start("client"))
                for number in ("first", "second"):  # nc, for one, answers the first and refuses the second
                    say = Say("client", "server", f"{number} request")
                    player.said.append((say, _ask(player, request)))
                played = player.played()
            finally:
                player.end_fixes()
    except LabUnavailable:
        raise
    except LabError as error:
        return Trial(None, str(error))
    silent = not played.findings() and {fate for _, fate in played.said} == {"lost"}
    return UNANSWERED if silent else judge(played, finding)


def _not_up(copy: Host, server: Program, port: int) -> str:
    """Wait until the program has opened its port. Empty if it has; else what it said last."""
    try:
        try:
            copy.wait_for_port(port, server, timeout=PATIENCE)
        except CommandFailed:
            if server.status != 0:  # 0: one that goes to the background
                raise
            copy.wait_for_port(port, timeout=PATIENCE)
    except (CommandFailed, TimedOut):
        server.drain()
        return server.last_words()
    return ""


def _ask(player: Player, request: bytes) -> Fate:
    """Whatever comes back is an answer. A program that only prints what it hears is spoken for."""
    server, client = player.running["server"], player.running["client"]
    printed, answered = len(server.output), len(client.output)
    spoken = False

    def heard() -> bool:
        nonlocal spoken
        if len(server.output) > printed and not spoken:
            spoken = True
            server.type(b"world\n")
        return len(client.output) > answered

    client.type(request)
    try:
        wait_until(heard, [server, client, *player.cancels], timeout=SILENCE, what="")
    except TimedOut:
        return "lost"
    return "heard"
