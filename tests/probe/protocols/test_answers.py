"""What is recognised as an answer, and what is not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit.probe.protocols import LINE, PROTOCOLS, for_port

from .replies import MORE, REPLIES, UNIQUE

SILENT = {"syslog"}
ECHOES = {"echo", "line"}
WITHOUT_IDENTIFIER = {"kerberos", "tftp", "ssdp", "a2s", "daytime", "chargen", "dtls"}
"""Nothing in their answers is the request's; for `line` the answer is the request."""


@pytest.fixture(params=PROTOCOLS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_each_protocol_has_an_answer_here():
    assert set(REPLIES) | SILENT == set(PROTOCOLS)


@pytest.mark.parametrize(
    ("name", "answer", "said"), [*((name, *reply) for name, reply in REPLIES.items()), *MORE]
)
def test_an_answer_is_named(name, answer, said):
    request = PROTOCOLS[name].request(UNIQUE, None)
    assert PROTOCOLS[name].recognise(request, answer(request)) == said


@pytest.mark.parametrize("name", sorted(set(REPLIES) - WITHOUT_IDENTIFIER - {"line"}))
def test_an_answer_to_another_request_is_none(name):
    mine, other = (PROTOCOLS[name].request(unique, None) for unique in (UNIQUE, bytes(range(100, 116))))
    answer, said = REPLIES[name]
    assert PROTOCOLS[name].recognise(mine, answer(mine)) == said
    assert PROTOCOLS[name].recognise(mine, answer(other)) is None


def test_the_request_itself_is_no_answer(name):
    request = PROTOCOLS[name].request(UNIQUE, None)
    assert (PROTOCOLS[name].recognise(request, request) is not None) is (name in ECHOES)


@pytest.mark.parametrize(
    ("name", "answer"), [*((name, reply[0]) for name, reply in REPLIES.items()), *(one[:2] for one in MORE)]
)
def test_an_answer_cut_anywhere_or_with_one_byte_changed_does_no_harm(name, answer):
    protocol = PROTOCOLS[name]
    request = protocol.request(UNIQUE, None)
    whole = answer(request)
    for end in range(len(whole)):
        protocol.recognise(request, whole[:end])
        for value in (0, 0x7F, 0x80, 0xFF):
            said = protocol.recognise(request, whole[:end] + bytes([value]) + whole[end + 1 :])
            assert said is None or said.isprintable()
    assert protocol.recognise(request, b"") is None
    assert protocol.recognise(request, whole[:3]) is None


ANSWERS = {
    name: [
        answer(one.request(UNIQUE, None))
        for other, answer, _ in [*((name, *reply) for name, reply in REPLIES.items()), *MORE]
        if name == other
    ]
    for name, one in PROTOCOLS.items()
}
"""What hypothesis may hit upon, as it looks for constants in our files."""


@given(data=st.binary(max_size=400))
def test_garbage_is_no_answer(data):
    for one in PROTOCOLS.values():
        request = one.request(UNIQUE, None)
        assert one.recognise(request, data) is None or data in ANSWERS[one.name]


@given(data=st.data())
def test_garbage_behind_a_true_beginning_does_no_harm(data):
    name = data.draw(st.sampled_from(sorted(REPLIES)))
    request = PROTOCOLS[name].request(UNIQUE, None)
    whole = REPLIES[name][0](request)
    kept = data.draw(st.integers(0, len(whole)))
    said = PROTOCOLS[name].recognise(request, whole[:kept] + data.draw(st.binary(max_size=100)))
    assert said is None or (said.isprintable() and len(said) < 400)


def test_a_number_of_thousands_of_digits_is_no_answer():
    def long(tag: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content

    request = PROTOCOLS["snmp"].request(UNIQUE, None)
    pdu = long(0xA2, request[15:21], long(2, b"\x7f" * 4000), b"\2\1\0\x30\0")
    assert PROTOCOLS["snmp"].recognise(request, long(0x30, b"\2\1\1\4\6public", pdu)) is None


def test_a_port_has_the_protocol_that_is_usually_there():
    assert {port: for_port(port).name for port in (53, 123, 500, 4500, 1813, 2152, 56789)} == {
        53: "dns",
        123: "ntp",
        500: "ike",
        4500: "ike-nat",
        1813: "radius",
        2152: "gtp",
        56789: "line",
    }
    assert for_port(56789) is LINE


def test_no_port_has_two_protocols():
    ports = [port for one in PROTOCOLS.values() for port in one.ports]
    assert len(ports) == len(set(ports))


def test_only_tftp_answers_from_another_port():
    assert [one.name for one in PROTOCOLS.values() if one.other_port] == ["tftp"]


def test_dns_is_read_by_its_library_only_when_dns_is_spoken():
    program = (
        "import sys, udpkit.probe.protocols as p\n"
        "for one in p.PROTOCOLS.values():\n"
        "    if one.name not in ('dns', 'mdns'): one.recognise(one.request(bytes(16), None), bytes(100))\n"
        "p.PROTOCOLS['dns'].recognise(bytes(20), bytes(100))\n"
        "print('dns' in sys.modules)\n"
        "p.PROTOCOLS['dns'].request(bytes(16), None)\n"
        "print('dns' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
