"""Which ports of one host to probe next, and what silence is worth. Pure: time and randomness are arguments.

Theory of operation. A closed port answers with an ICMP error, but Linux grants each peer only one of those a
second, after a burst of six (icmpv4_xrlim_allow(), inet_peer_xrlim_allow(): a token bucket). So silence says
nothing by itself; it may be a closed port's for which no token was left. This is how it is made to say
something:

- Ports are probed in *rounds*, each a batch of datagrams in a known order. If a token is there when a round
  arrives, the first closed port of it takes the token and is refused. The ports before it have stayed silent
  although a refusal could be paid for: that is *evidence* that they are not closed. The ports behind it have
  told nothing, and come again. Every token so finds a closed port, and rules out silent ones for nothing.
- A round that is not refused has met an empty bucket, or has no closed port. It is repeated a little later:
  asking too early uses up no token, asking late loses none, as up to six are saved.
- A *proof* is a round that a *canary* follows, a port that was refused before. If no port of the round is
  refused but the canary is, none of them is closed. That holds only if the token was there before the round
  was, not come between it and the canary: so nothing is sent before for as long as a token takes. The token
  waits as long as need be, so the round is sent several times before the canary.
- How long a token takes is learnt: Linux saves six, so of k that were spent k - 6 have come in the time
  between; or less one after the bucket was empty for sure (`Budget`). As long as it is not known, two
  canaries must be refused together: the second one's token was there before the round, unless one comes as
  fast as canaries do.
- Rounds grow up to `LARGEST_ROUND` while all of their ports are told apart, so without a limit they soon do.
- Datagrams get lost, or overtake each other. A closed port that is refused although there was evidence
  against it shows how often. How much evidence and how many probes a verdict of silence takes follows from
  that.
- Routers and firewalls that refuse have a bucket each: a round counts as far as *every* known offender's.
- Before any port was refused there is no canary; then a port gets a few probes, `timeout` apart, together
  with random high ports that are probably closed: one of them may become the canary.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from random import Random

from udpkit.facts import Address
from udpkit.probe.budget import Budget

LARGEST_ROUND = 256
"""Datagrams: their errors fit the default receive buffer (212,992 bytes, 768 for a short one)."""
SMALLEST_ROUND = 8
SETTLES = 0.002
"""Seconds by which errors of one round may be apart, besides what the round trip takes."""
SURELY = 5
"""So many rounds in a row that went unheard were not lost: there was no token."""
STARVED = 2.5
"""Seconds without a refusal, after which a round seems to have no closed port."""
RESTS = 10
"""A port that stays silent rests for this part of the timeout: losses come in bursts."""
HELLO, HELLO_TIME = 2, 0.03
"""Datagrams to a host at first, and seconds to wait then: what its link does not know yet is queued."""
COLD_ROUND, COLD_RATE = 32, 5000.0
"""Datagrams at once and a second, to a host that has not said anything yet."""
RISK = 1e-3
"""Accepted probability that a sweep has a wrong verdict by loss alone."""
CANARIES = range(61000, 65536)
"""Where a port is probably closed: beyond the ephemeral ports of Linux (net.ipv4.ip_local_port_range)."""
GUESSES = 4
"""So many of those are tried while only routers refuse."""
BLANKET = 8
"""So many ports in a row, all told that the host cannot be reached, stand for the others."""
NEVER = math.inf


@dataclass(slots=True)
class Port:
    """What happened to one port that has no verdict yet. Times are in seconds of the caller's clock."""

    number: int
    sent: int = 0
    first_sent: float = NEVER
    last_sent: float = -NEVER
    evidence: int = 0
    """How often it stayed silent in a round of which a later port was refused."""
    proofs: int = 0
    """How often it was sent before canaries that were refused."""
    proven: bool = False
    """Whether a closed port of the host was among those."""
    settled_at: float = NEVER
    """When the last probe that a verdict of silence takes was sent."""
    resolved: bool = False


@dataclass(slots=True)
class Round:
    """Probes sent back to back, in this order; perhaps again, and the canaries at last."""

    order: list[Port]
    position: dict[int, int]
    sent_at: float
    closes_at: float
    before: float
    """When something was sent before it."""
    left: int
    """Ports of it that are not resolved."""
    proof: bool
    """Whether canaries follow."""
    copies: int = 1
    """How often it is sent before them."""
    sent: int = 1
    next_step: float = NEVER
    """When the next copy is sent, or the canaries."""
    canaries: int = 1
    """How many of each offender must be refused together."""
    reached: dict[Budget, int] = field(default_factory=dict)
    """For each offender the last position that it refused; behind them all, if its canaries were."""
    sung: Counter[Budget] = field(default_factory=Counter)
    """How many of its canaries each offender has refused."""


class Sweep:
    """The probing of one host's ports. The caller sends what `due` returns, and tells what comes back."""

    def __init__(
        self, ports: Iterable[int], *, timeout: float, retries: int, random: Random, canaries: bool = True
    ) -> None:
        """timeout: seconds that an answer may take. retries: how many more probes a silent port gets at
        least.

        canaries: whether to look for closed ports beyond those that were asked for.
        """
        numbers = list(ports)
        random.shuffle(numbers)
        self.timeout = timeout
        self.total = len(numbers)
        self.begun = False
        """Whether anything was sent."""
        self.heard = False
        """Whether anything came back but that the host cannot be reached."""
        self._rest = timeout / RESTS
        self._gap = self._rest / 4  # between copies of a round
        self._retries = retries
        self._random = random
        self._hunts = canaries
        self._unresolved = {number: Port(number) for number in numbers}
        self._fresh = deque(self._unresolved.values())
        self._suspects: deque[Port] = deque()  # with evidence, the oldest probe first
        self._quiet: list[Port] = []  # as much evidence as it takes
        self._budgets: dict[Address, Budget] = {}  # of each offender
        self._round: Round | None = None
        self._next_round = -NEVER
        self._last_probe = -NEVER
        self._window = SMALLEST_ROUND
        self._rtt = 0.0
        self._least_rtt = 0.0
        self._unpaid: Round | None = None  # the last one that was not refused
        self._last_refusal = -NEVER
        self._failures = 0  # rounds in a row that were not refused
        self._saved = False  # whether there may be more tokens than closed ports
        self._starved = False  # whether there seems to be no closed port among the next
        self._hopeless = False
        self._guesses: dict[int, float] = {}  # at closed ports, and when they were probed
        self._guessed = 0
        self._refusals = 0
        self._evidence_against = 0  # ports that were refused in the end
        self._proofs_against = 0
        self._proofs = 0  # that were heard, and not
        self._unheard = 0
        self._blanket: set[Address | None] = set()
        self._blanket_ports = 0

    # What the caller asks.

    @property
    def finished(self) -> bool:
        """Whether no more probes are needed: what is `silent` then, is."""
        return not self._unresolved or self.blanket or self._next_round == NEVER

    @property
    def done(self) -> int:
        """How many ports need no more probes."""
        return self.total - len(self._unresolved) + sum(not port.resolved for port in self._quiet)

    @property
    def silent(self) -> Collection[Port]:
        """The ports without an answer."""
        return self._unresolved.values()

    @property
    def cold(self) -> bool:
        """Whether no port is known to be refused, or none is any more."""
        return not self._budgets or self._hopeless

    @property
    def blanket(self) -> bool:
        """Whether the first ports were all told that the host cannot be reached, and nothing else came."""
        return self._blanket_ports >= BLANKET and not self.heard and len(self._blanket) == 1

    def due(self, now: float) -> list[int]:
        """The ports to probe now, in this order; empty if it is not time, or everything is done."""
        if self.finished:
            return []
        if self._round:
            if now < self._step_at(self._round):
                return []
            if numbers := self._continue(self._round, now):
                return numbers
            self._close(self._round)
        if now < self._next_round:
            return []
        self._hopeless = bool(self._budgets) and now - self._last_refusal > self._patience
        return self._cold_round(now) if self.cold else self._warm_round(now)

    def wake(self) -> float:
        """When to call `due` next."""
        if self.finished:
            return NEVER
        return self._step_at(self._round) if self._round else self._next_round

    # What the caller tells.

    def replied(self, number: int) -> Port | None:
        """A port has answered. Returns what happened to it, if that is news."""
        if not self.heard and self.cold:
            self._next_round = -NEVER
        self.heard = True
        port = self._unresolved.get(number)
        if port:
            self._resolve(port)
        return port

    def refused(
        self,
        number: int,
        offender: Address | None,
        now: float,
        *,
        closed: bool = False,
        unreachable: bool = False,
        nobody: bool = False,
    ) -> Port | None:
        """An error came back for a port; `offender` sent it, None if this host did. Returns as `replied`.

        closed: whether the host itself refused it. unreachable: whether it says that the host cannot be
        reached; nobody: that there is none, for sure.
        """
        port = self._unresolved.get(number)
        if not unreachable:
            self.heard |= offender is not None
        elif port:
            self._blanket.add(offender)
            self._blanket_ports += BLANKET if nobody else 1
        if offender is not None:
            if self.cold:
                self._next_round = now
                self._hopeless = False
            self._last_refusal = now
            budget = self._budgets.get(offender)
            if budget is None:
                budget = self._budgets[offender] = Budget()
            if self._unpaid and number in self._unpaid.position:
                if self._failures >= SURELY:
                    budget.empty(self._unpaid.sent_at)
                self._unpaid = None
            budget.spend(now)
            if self._round and number in self._round.position:
                self._note(self._round, number, budget, now, canary=port is None)
            elif number in self._guesses:
                self._measure(now - self._guesses.pop(number))
            elif port and port.sent == 1:
                self._measure(now - port.last_sent)
            if port or not budget.canaries or (closed and not budget.has_closed):
                budget.refused(number, closed=closed)
        if port:
            self._starved = False
            self._evidence_against += port.evidence
            self._proofs_against += port.proofs
            self._refusals += 1
            self._resolve(port)
        return port

    # Before any port was refused, and after the canaries have fallen silent.

    def _cold_round(self, now: float) -> list[int]:
        """Ports that were not probed for a while, and with a second probe a guess at a closed one."""
        if self._suspects:
            self._fresh.extend(self._suspects)
            self._suspects.clear()
        order: list[Port] = []
        most = COLD_ROUND if self.begun else HELLO
        while self._fresh and len(order) < most and self._fresh[0].last_sent + self.timeout <= now:
            if not (port := self._fresh.popleft()).resolved:
                order.append(port)
        guess = self._hunts and not self._budgets and any(port.sent for port in order)
        self._send(order, now)
        for port in order:
            (self._quiet if port.sent >= self.probes_needed else self._fresh).append(port)
        if order:
            self._next_round = now + (len(order) / COLD_RATE if self.begun else HELLO_TIME)
            self.begun = True
        elif self._fresh:
            self._next_round = self._fresh[0].last_sent + self.timeout
        else:
            self._finish(now)
        return [port.number for port in order] + ([self._guess(now)] if guess else [])

    # Rounds.

    def _warm_round(self, now: float) -> list[int]:
        if len(self._fresh) < self._window:
            self._recall()
        if not self._fresh and not self._suspects:
            self._finish(now)
            return []
        token_time = self._token_time
        if token_time is None:
            proof = not self._failures and len(self._fresh) <= self._window
            # Only the canaries, to learn how long a token takes.
            learns = not proof and (not self._fresh or self._starved or now - self._last_refusal > STARVED)
            self._starved |= learns
        else:
            proof = now >= self._last_probe + token_time
            # The last token was a canary's: is there another one, so that a token takes less time?
            learns = not proof and self._saved
            self._saved &= proof
            if not proof and not learns and (self._failures or not self._fresh):
                self._next_round = self._last_probe + token_time
                return []
        if learns:
            return self._open(Round([], {}, now, now, self._last_probe, 1, proof=True, next_step=now), now)
        if order := self._gather(now):
            return self._open(self._round_of(order, now, proof), now)
        if self._suspects:
            self._next_round = self._suspects[0].last_sent + self._rest
        else:
            self._finish(now)
        return []

    def _gather(self, now: float) -> list[Port]:
        """The ports of the next round: suspects that have rested, then as many fresh ones as may be."""
        order: list[Port] = []
        while self._suspects and len(order) < LARGEST_ROUND:
            if self._suspects[0].last_sent + self._rest > now:
                break
            if not (port := self._suspects.popleft()).resolved:
                order.append(port)
        most = min(len(order) + self._window, LARGEST_ROUND)
        while self._fresh and len(order) < most:
            if not (port := self._fresh.popleft()).resolved:
                order.append(port)
        return order

    def _round_of(self, order: list[Port], now: float, proof: bool) -> Round:
        position = {port.number: place for place, port in enumerate(order)}
        last = now + self._patient_rtt
        current = Round(order, position, now, last, self._last_probe, len(order), proof=proof)
        if proof:
            current.copies = self._copies
            current.canaries = 1 if self._token_time is not None else 2
            current.next_step = now + (self._gap if current.copies > 1 else self._canary_delay)
        return current

    def _open(self, current: Round, now: float) -> list[int]:
        self._round = current
        self._send(current.order, now)
        return [port.number for port in current.order] or self._continue(current, now)

    def _step_at(self, current: Round) -> float:
        """When the round goes on, or ends."""
        if not current.left:
            return -NEVER
        if current.next_step < NEVER and not self._is_heard(current):
            return current.next_step
        return current.closes_at

    def _is_heard(self, current: Round) -> bool:
        """Whether every known offender has refused a port of the round."""
        return len(current.reached) == len(self._budgets)

    def _continue(self, current: Round, now: float) -> list[int]:
        """The next copy of a round, or the canaries, if it is not over."""
        if not current.left or now < current.next_step or self._is_heard(current):
            return []
        if current.sent < current.copies:
            again = [port for port in current.order if not port.resolved]
            current.sent += 1
            current.next_step = now + (self._gap if current.sent < current.copies else self._canary_delay)
            self._send(again, now)
            return [port.number for port in again]
        current.next_step = NEVER
        current.closes_at = now + self._patient_rtt
        self._last_probe = now
        canaries = []
        for budget in self._budgets.values():
            if budget not in current.reached:
                budget.canaries.rotate()
                canaries += [budget.canaries[0]] * current.canaries
                current.position[budget.canaries[0]] = len(current.order)
        if self._hunts and not self._knows_closed and self._guessed < GUESSES:
            canaries.append(self._guess(now))
        return canaries

    def _note(self, current: Round, number: int, budget: Budget, now: float, *, canary: bool) -> None:
        """A refusal of a port of this round; one so early that it is the last round's tells nothing."""
        elapsed = now - current.sent_at
        if elapsed < self._least_rtt / 2 and current.sent_at - current.before < self._patient_rtt:
            return
        place = current.position[number]
        if place == len(current.order):
            current.sung[budget] += 1
            if current.sung[budget] < current.canaries:
                return
        reached = current.reached.get(budget, -1)
        current.reached[budget] = max(place, reached)
        if reached < 0 and current.sent == 1 and not canary:
            self._measure(elapsed)
        if self._is_heard(current):
            # Behind the last one no refusal is to come; else those of the rest may be on their way.
            is_last = min(current.reached.values()) >= len(current.order) - 1
            current.closes_at = min(current.closes_at, now + (0 if is_last else self._rtt / 4 + SETTLES))

    def _close(self, current: Round) -> None:
        """What the round has told, and when the next one starts."""
        self._round = None
        heard = self._is_heard(current)
        cut = min(current.reached.values()) if heard else 0
        proven = heard and current.proof and cut == len(current.order)
        told, behind = 0, []
        for place, port in enumerate(current.order):
            if port.resolved:
                told += 1
                continue
            if place < cut:
                told += 1
                if proven:
                    port.proofs += current.sent
                    port.proven |= self._knows_closed
                else:
                    port.evidence += 1
            if not port.evidence and not port.proofs:
                behind.append(port)
            elif self._is_enough(port):
                self._quiet.append(port)
            else:
                self._suspects.append(port)
        self._fresh.extendleft(reversed(behind))
        if not behind:
            self._window = min(2 * self._window, LARGEST_ROUND)
        elif current.reached:
            self._window = max(SMALLEST_ROUND, min(self._window, 2 * (told + 1)))
        strict = bool(current.order) and current.proof and self._token_time is not None
        self._saved = proven
        if heard or not current.left or (current.reached and not current.proof):
            self._failures = 0
            self._proofs += strict
            self._next_round = -NEVER
            return
        self._failures += 1
        self._unpaid = current
        if current.proof:
            self._unheard += strict
            if self._failures >= SURELY:
                for budget in self._budgets.values():
                    if budget in current.reached:
                        continue
                    if strict:
                        budget.reset()
                    budget.empty(current.sent_at)
        self._next_round = current.sent_at + 0.02 * 2 ** min(self._failures, 3)

    @property
    def _token_time(self) -> float | None:
        """Seconds after which every offender has a token, if that is known."""
        times = [budget.token_time for budget in self._budgets.values()]
        return None if None in times else max(time for time in times if time is not None)

    def _recall(self) -> None:
        """Back to those that are probed, what needs more than was thought."""
        waiting = [port for port in self._quiet if not port.resolved]
        self._quiet = [port for port in waiting if self._is_enough(port) and self._has_proof(port)]
        if len(self._quiet) < len(waiting):
            enough = set(map(id, self._quiet))
            lacking = [port for port in waiting if id(port) not in enough]
            (self._fresh if self.cold else self._suspects).extendleft(reversed(lacking))

    @property
    def _knows_closed(self) -> bool:
        """Whether the host itself has refused a port, so that there is a canary of its own."""
        return any(budget.has_closed for budget in self._budgets.values())

    def _has_proof(self, port: Port) -> bool:
        """As much of it as there can be: that of routers only, if the host itself refuses nothing."""
        return self.cold or port.proven or (port.proofs > 0 and not self._knows_closed)

    def _finish(self, now: float) -> None:
        """Nothing left to send, unless the verdicts need more by now; then wait for late answers."""
        self._recall()
        if self._fresh or self._suspects:
            self._next_round = now
            return
        # An answer to the first probe may take as long; to the others, too, where the first may be lost.
        patient = self.cold or self._loses
        since = (port.settled_at if patient else port.first_sent for port in self._quiet)
        last = max(since, default=now) + self.timeout
        self._next_round = last if now < last else NEVER

    # Small things.

    def _send(self, ports: Iterable[Port], now: float) -> None:
        needed = self.probes_needed
        self._last_probe = now
        for port in ports:
            port.sent += 1
            port.last_sent = now
            if port.sent == 1:
                port.first_sent = now
            if port.sent <= needed:
                port.settled_at = now

    def _is_enough(self, port: Port) -> bool:
        """Whether it need not be probed any more, but perhaps for a proof."""
        if port.sent < self.probes_needed:
            return False
        weight = port.evidence * -math.log(self._passed_over) + port.proofs * -math.log(self._lost)
        return self.cold or weight >= self._certainty

    def _resolve(self, port: Port) -> None:
        port.resolved = True
        del self._unresolved[port.number]
        if self._round and port.number in self._round.position:
            self._round.left -= 1

    def _measure(self, rtt: float) -> None:
        self._rtt = 0.8 * self._rtt + 0.2 * rtt if self._rtt else rtt
        self._least_rtt = min(self._least_rtt or rtt, rtt)

    def _guess(self, now: float) -> int:
        """A port that is probably closed."""
        number = self._random.choice(CANARIES)
        self._guesses[number] = now
        self._guessed += 1
        return number

    @property
    def _canary_delay(self) -> float:
        """Seconds in which what was sent before should have been refused."""
        return 1.25 * self._rtt + SETTLES

    @property
    def _patient_rtt(self) -> float:
        """Seconds after which a refusal is not to be expected any more."""
        return min(2 * self._rtt + 0.01, self.timeout)

    @property
    def _patience(self) -> float:
        """Seconds without any refusal after which the canaries are given up."""
        return max(10 * (self._token_time or 1), 5 * self.timeout)

    @property
    def _certainty(self) -> float:
        """How much a verdict takes: minus the logarithm of the accepted risk of each port."""
        return math.log(self.total / RISK)

    @property
    def _passed_over(self) -> float:
        """Probability that a closed port stays silent and a later one of its round is refused."""
        return share(self._evidence_against, self._refusals)

    @property
    def _lost(self) -> float:
        """Probability that a closed port stays silent in a proof: its probe or its refusal is lost."""
        return share(self._proofs_against + self._unheard, self._proofs)

    @property
    def _loses(self) -> bool:
        """Whether anything was lost or overtaken, as far as it has shown."""
        return self._evidence_against + self._proofs_against + self._unheard > 0

    @property
    def _copies(self) -> int:
        """How often to send a round before the canaries: so that it weighs half of what a verdict takes.

        No more: the refusal of a first copy may have used up the token and be lost, and if another token
        comes soon the canary is refused nevertheless. Where datagrams do get lost, only rounds apart count.
        """
        token_time = self._token_time
        if self._loses or (token_time is not None and token_time < self._rest):
            return 1
        return math.ceil(self._certainty / 2 / -math.log(self._lost))

    @property
    def probes_needed(self) -> int:
        """How many probes a port must leave unanswered, for a verdict."""
        against = self._evidence_against + self._proofs_against
        if not against:
            return 1 + self._retries
        lost = min(self._passed_over, 0.5)  # overtaking, too, but losses are not told apart in time
        there_and_back = 1 - (1 - lost) ** 2
        return max(1 + self._retries, math.ceil(self._certainty / -math.log(there_and_back)))


def share(misses: int, hits: int) -> float:
    """The probability of a miss, with the doubt that a small sample leaves."""
    return min((misses + 0.5) / (misses + hits + 5), 0.9)
