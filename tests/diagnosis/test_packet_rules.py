"""What holds for all rules about packets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from udpkit.diagnosis import RULES, diagnose
from udpkit.fixes import advise
from udpkit.kernel.icmp import KINDS

from .facts_build import PACKET_RULES, case, check, flow, icmp, socket, table, talk

HOSTS = ["10.0.0.9", "10.0.0.1", "10.1.0.1", "10.0.0.255", "224.0.0.251"]
PORTS = [53, 69, 123, 5060, 7000, 33434, 40000]
ends = st.builds("{}:{}".format, st.sampled_from(HOSTS), st.sampled_from(PORTS))
seconds = st.integers(0, 20)
flows = st.builds(
    lambda count, first, more, bad, lost: flow(
        count, first, first + more, bad=min(bad, count), lost=min(lost, count)
    ),
    st.integers(1, 30),
    seconds,
    seconds,
    st.integers(0, 2),
    st.integers(0, 2),
)
kinds = st.sampled_from([kind[1:] for kind in KINDS if kind[0] == 4] + [(3, 99)])


@st.composite
def conversations(draw):
    client, server = draw(ends | st.just("10.0.0.9:0")), draw(ends)  # a port that tcpdump does not show
    strays = draw(st.dictionaries(ends, flows, max_size=2))
    quoted = st.sampled_from([(client, server), (server, client), *((stray, client) for stray in strays)])
    by = st.sampled_from([None, "10.0.0.254", "10.0.0.9"])
    errors = draw(
        st.lists(
            st.builds(
                lambda kind, pair, by, count, first, more: icmp(
                    kind, pair, by=by, count=count, first=first, last=first + more
                ),
                *(kinds, quoted, by, st.integers(1, 9), seconds, seconds),
            ),
            max_size=3,
        )
    )
    requests, replies = draw(st.none() | flows), draw(st.none() | flows)
    return talk(
        client, server, requests, replies, *errors, strays=strays, others=draw(st.booleans()), hears=True
    )


tables = st.lists(
    st.builds(
        lambda local, peer, when: table(socket(local, peer), when=when),
        ends,
        st.none() | ends,
        st.none() | seconds,
    ),
    max_size=2,
)


@given(st.lists(conversations(), max_size=6), tables)
def test_whatever_was_seen_every_finding_is_whole_and_can_be_advised_on(several, seen):
    given_case = case(*several, tables=seen)
    for code in PACKET_RULES:
        for one in RULES[code].find(given_case):
            assert one.code == code
            check(one)
            advise(one)


@given(
    st.lists(
        st.builds(
            lambda client, server, count: talk(client, server, flow(count), flow(count)),
            ends,
            ends,
            st.integers(1, 30),
        ),
        max_size=9,
    )
)
def test_what_was_answered_is_healthy(several):
    assert diagnose(case(*several)) == []
