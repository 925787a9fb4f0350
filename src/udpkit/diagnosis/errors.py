"""What ICMP said about a conversation, for the rules that judge it."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence

from udpkit.diagnosis.finding import Finding, Severity
from udpkit.diagnosis.refusals import is_refusal
from udpkit.diagnosis.why import first_and_last
from udpkit.facts import Address, Conversation, Endpoint, Errors, IcmpError, Reference
from udpkit.kernel import icmp
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.icmp import KINDS


def name(error: IcmpError) -> str:
    return icmp.name(*error.kind)


def of_kind(errors: Sequence[Errors], kinds: Collection[tuple[int, int, int]]) -> list[Errors]:
    return [one for one in errors if one.error.kind in kinds]


def refused_replies(conversation: Conversation) -> list[Errors]:
    """The client's refusals of what came from the endpoint that was asked."""
    about = (one for one in conversation.about_replies() if one.error.quoted_source == conversation.server)
    return [one for one in about if is_refusal(one)]


def total(errors: Sequence[Errors]) -> int:
    return sum(one.count for one in errors)


def first_ns(errors: Sequence[Errors]) -> int | None:
    return min(errors, key=lambda one: one.first.order).first.time_ns


def last_ns(errors: Sequence[Errors]) -> int | None:
    return max(errors, key=lambda one: one.last.order).last.time_ns


def seconds(errors: Sequence[Errors]) -> float | None:
    """From the first to the last; None without times."""
    first, last = first_ns(errors), last_ns(errors)
    return None if first is None or last is None else (last - first) / 1e9


def seen(conversation: Conversation, errors: Sequence[Errors]) -> list[Reference]:
    """The first request, and the first and the last of each kind of error."""
    return [*first_and_last([conversation.requests])[:1], *first_and_last(errors)]


def finding(
    code: str,
    severity: Severity,
    summary: str,
    one: Conversation,
    errors: Sequence[Errors],
    why: Sequence[str],
    more: Sequence[Reference] = (),
    *,
    actual: Endpoint | None = None,
    process: str | None = None,
) -> Finding:
    """One about these errors; `more` is evidence beside them and the first request."""
    return Finding(
        code=code,
        severity=severity,
        summary=summary,
        client=one.client,
        server=one.server,
        actual=actual,
        process=process,
        count=total(errors),
        first=first_ns(errors),
        last=last_ns(errors),
        why=why,
        evidence=[*seen(one, errors), *more],
    )


def known(endpoint: Endpoint) -> str:
    """Its address and port; the address alone where the evidence hides the port."""
    return str(endpoint) if endpoint.port else str(endpoint.address)


def exchange(conversation: Conversation, error: IcmpError) -> str:
    """Who sent the datagram that an error is about, to whom."""
    client, server = known(conversation.client), conversation.server
    is_request = error.quoted_source == conversation.client
    return f"{client} asked {server}" if is_request else f"{server} answered {client}"


def whose(sender: Address, conversation: Conversation) -> str:
    """Who sent an error, in words that follow `by`."""
    if sender == conversation.client.address:
        return f"the client's own host ({sender})"
    if sender == conversation.server.address:
        return f"{sender} itself"
    return f"{sender}, which is on the way"


def on_the_sender(error: IcmpError) -> str:
    """What the error tells the program whose datagram it quotes."""
    functions, sender = FUNCTIONS[error.sender.version], error.quoted_source.address
    kind = KINDS.get(error.kind)
    if kind is None or kind.errno is None:
        return f"{functions.unheard} on {sender}: no socket is told of {name(error)}."
    hear, told = f"{functions.hear} on {sender}", errno.errorcode[kind.errno]
    if kind.hard:
        return (
            f"{hear}: the error goes to the socket that sent the datagram, if that is connected ({told} at "
            f"its next call); an unconnected one hears of it only if it asked for errors ({functions.asks})."
        )
    return (
        f"{hear}: Linux takes {name(error)} for an error that may pass; only a socket with "
        f"{functions.asks} is told ({told}), and the others wait for an answer that will not come."
    )
