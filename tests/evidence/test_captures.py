import contextlib
import gzip
import os
import signal
import threading
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit import _native
from udpkit.evidence import Evidence, UnreadableError, open_evidence, read_captures
from udpkit.facts import Conversation, Endpoint, Errors, Flow, IcmpError, Moment, Reference

from .build import datagram, frame, pcap, refusal

CLIENT, ASKED, ACTUAL = (
    Endpoint(ip_address(address), port)
    for address, port in (("172.17.0.3", 38908), ("172.16.13.13", 56789), ("172.17.0.1", 56789))
)
REQUEST = datagram("172.17.0.3", 38908, "172.16.13.13", 56789, b"hello\n")
REPLY = datagram("172.17.0.1", 56789, "172.17.0.3", 38908, b"world\n")
REFUSED = refusal("172.17.0.3", "172.17.0.1", REPLY)
STORY = pcap(*map(frame, (REQUEST, REPLY, REFUSED, REQUEST)))


def moment(packet: int, source: int = 0) -> Moment:
    return Moment(packet - 1, packet * 1_000_000_000 + 5000, Reference(source, packet=packet))


def test_a_conversation_is_told_in_facts() -> None:
    [source], [conversation], unjudged = read_captures([Evidence.of("x.pcap", STORY)])
    error = IcmpError(
        Reference(0, packet=3), 3_000_005_000, CLIENT.address, ACTUAL.address, 3, 3, ACTUAL, CLIENT
    )
    assert conversation == Conversation(
        client=CLIENT,
        server=ASKED,
        requests=Flow(2, moment(1), moment(4), largest=6),
        strays={ACTUAL: Flow(1, moment(2), moment(2), largest=6)},
        errors=(Errors(error, 1, moment(3), moment(3)),),
        client_hears=True,
    )
    assert (source.path, source.kind, source.packets, source.datagrams) == ("x.pcap", "pcap", 4, 3)
    assert (source.icmp_errors, source.skipped, list(source.damage), unjudged) == (1, 0, [], 0)
    assert source.last_ns == 4_000_005_000


def test_captures_of_one_case_are_read_together_and_know_their_places_in_it() -> None:
    request, rest = pcap(frame(REQUEST)), pcap(frame(REPLY), frame(REFUSED))
    evidence = [Evidence.of("a", request), Evidence.of("b", rest)]
    sources, [conversation], _ = read_captures(evidence, sources=[4, 7])
    assert [source.path for source in sources] == ["a", "b"]
    assert conversation.requests is not None
    assert conversation.requests.first.seen == Reference(4, packet=1)
    assert conversation.strays[ACTUAL].first.seen == Reference(7, packet=1)


def test_a_hundred_thousand_are_handed_out_and_the_others_counted() -> None:
    number = 100_003
    asked = (
        frame(datagram(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 40000, "192.0.2.1", 5300))
        for n in range(number)
    )
    _, conversations, unjudged = read_captures([Evidence.of("x", pcap(*asked))])
    assert (len(conversations), unjudged) == (100_000, 3)


def test_a_file_is_named_by_path_and_may_be_compressed(tmp_path) -> None:
    path = tmp_path / "x.pcap.gz"
    path.write_bytes(gzip.compress(STORY))
    [source], conversations, _ = read_captures([open_evidence(path)])
    assert (source.path, source.kind, len(conversations)) == (str(path), "pcap", 1)


def test_a_descriptor_is_copied(tmp_path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(STORY)
    with path.open("rb") as file:
        opened = _native.Input(file.fileno())
    assert opened.kind == "pcap"
    assert _native.read([opened])[0][0].packets == 4


@pytest.mark.parametrize(
    ("name", "reason"), [("gone", "No such file or directory"), ("", "Is a directory"), ("\0", "NUL|nul")]
)
def test_what_cannot_be_opened_is_named_in_one_line(tmp_path, name, reason) -> None:
    with pytest.raises(UnreadableError, match=reason) as raised:
        open_evidence(f"{tmp_path}/{name}")
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_no_capture_is_for_other_readers() -> None:
    text = "State Recv-Q\nUNCONN 0\n\xff"
    with pytest.raises(UnreadableError, match=r"^x: not a capture"):
        read_captures([Evidence.of("x", b"no capture")])
    other = _native.Input(text.encode("latin-1"))
    assert other.kind is None
    assert other.head == text.encode("latin-1")
    assert [other.text(5), other.text(100), other.text(100)] == [
        "State",
        text[5:-1] + "\N{REPLACEMENT CHARACTER}",
        "",
    ]


def test_an_input_is_read_once() -> None:
    evidence = Evidence.of("x", STORY)
    read_captures([evidence])
    with pytest.raises(UnreadableError, match=r"^x: .*already"):
        read_captures([evidence])
    assert evidence.input.head == b""
    assert evidence.input.text(1) == ""


def test_indices_are_one_for_each_input() -> None:
    with pytest.raises(ValueError, match="an index for each input"):
        _native.read([_native.Input(STORY)], sources=[1, 2])


class StopError(Exception):
    pass


def interrupt(*_: object) -> None:
    raise StopError


@pytest.fixture
def alarm():
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_waiting_for_a_pipe_ends_with_a_signal() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, STORY)
        with pytest.raises(StopError):
            _native.Input(reading)
    finally:
        os.close(reading)
        os.close(writing)


def test_progress_is_told_and_may_end_it() -> None:
    told: list[int] = []

    def stop(count: int) -> None:
        told.append(count)
        raise StopError

    reading, writing = os.pipe()

    def write_for_ever() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
            pipe.write(STORY[:24])
            while True:
                pipe.write(STORY[24:] * 1000)

    writer = threading.Thread(target=write_for_ever)
    writer.start()
    evidence = Evidence("pipe", _native.Input(reading))
    os.close(reading)
    with pytest.raises(StopError):
        read_captures([evidence], progress=stop)
    del evidence
    writer.join(10)
    assert not writer.is_alive()
    assert len(told) == 1
    assert told[0] > len(STORY)


@given(st.binary(max_size=200).map(lambda tail: STORY[:24] + tail), st.binary(max_size=100))
def test_arbitrary_bytes_are_read_or_one_kind_of_error(capture: bytes, other: bytes) -> None:
    for data in (capture, other):
        try:
            [source], _, _ = read_captures([Evidence.of("x", data)])
        except UnreadableError:
            continue
        assert source.skipped >= 0
