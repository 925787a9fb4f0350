from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from udpkit.evidence import read_pcap
from udpkit.facts import Datagram, Endpoint, IcmpError, Reference

from .build import ARP_FRAME, datagram, frame, pcap, refusal

CLIENT, ASKED, ACTUAL = (
    Endpoint(ip_address(address), port)
    for address, port in (("172.17.0.3", 38908), ("172.16.13.13", 56789), ("172.17.0.1", 56789))
)
REQUEST = datagram("172.17.0.3", 38908, "172.16.13.13", 56789, b"hello\n")
REPLY = datagram("172.17.0.1", 56789, "172.17.0.3", 38908, b"world\n")
REFUSED = refusal("172.17.0.3", "172.17.0.1", REPLY)
STORY = pcap(*map(frame, (REQUEST, REPLY, REFUSED)))


def messages(data: bytes):
    return read_pcap(data, "x.pcap", source=0)[1]


def test_a_datagram_and_the_error_that_quotes_it():
    source, seen = read_pcap(STORY, "x.pcap", source=3)
    assert seen == [
        Datagram(Reference(3, packet=1), 1_000_005_000, CLIENT, ASKED, 6, b"hello\n"),
        Datagram(Reference(3, packet=2), 2_000_005_000, ACTUAL, CLIENT, 6, b"world\n"),
        IcmpError(
            Reference(3, packet=3), 3_000_005_000, CLIENT.address, ACTUAL.address, 3, 3, ACTUAL, CLIENT
        ),
    ]
    assert (source.path, source.kind, source.damage) == ("x.pcap", "pcap", [])
    assert (source.packets, source.datagrams, source.icmp_errors, source.skipped) == (3, 2, 1, 0)


def test_ipv6_is_read_like_ipv4():
    request = datagram("fd00::3", 40000, "fd00::1", 53)
    asked, refused = messages(pcap(frame(request), frame(refusal("fd00::1", "fd00::3", request))))
    assert (str(asked.source), str(asked.destination)) == ("[fd00::3]:40000", "[fd00::1]:53")
    assert (refused.icmp_type, refused.code) == (1, 4)
    assert (refused.quoted_source, refused.quoted_destination) == (asked.source, asked.destination)


def test_messages_come_in_the_files_order_and_other_packets_are_counted():
    data = pcap(frame(REFUSED), ARP_FRAME, frame(REQUEST), frame(REFUSED), frame(REPLY))
    source, seen = read_pcap(data, "x.pcap", source=0)
    assert [message.seen.packet for message in seen] == [1, 3, 4, 5]
    assert source.skipped == 1


def test_an_error_whose_quote_has_no_ports_is_counted_but_tells_nothing():
    source, seen = read_pcap(pcap(frame(refusal("172.17.0.3", "172.17.0.1", REPLY[:20]))), "x.pcap", source=0)
    assert (source.icmp_errors, seen) == (1, [])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "fraction_ns"), [(0xA1B2C3D4, 5000), (0xA1B23C4D, 5)])
def test_both_byte_orders_and_both_clocks(order, magic, fraction_ns):
    [only] = messages(pcap(frame(REQUEST), order=order, magic=magic))
    assert only.time_ns == 1_000_000_000 + fraction_ns


def test_what_lies_before_damage_is_read():
    source, seen = read_pcap(STORY + b"\xff" * 20, "x.pcap", source=0)
    assert seen == messages(STORY)
    assert source.damage[0].startswith(f"damaged at byte {len(STORY)}")


@pytest.mark.parametrize("cut", range(len(STORY)))
def test_a_capture_that_was_cut_gives_a_prefix_or_is_no_capture(cut):
    if cut < 24:
        with pytest.raises(ValueError, match="not a capture"):
            read_pcap(STORY[:cut], "x.pcap", source=0)
        return
    source, seen = read_pcap(STORY[:cut], "x.pcap", source=0)
    assert seen == messages(STORY)[: len(seen)]
    whole = cut in {
        24 + sum(16 + 14 + len(packet) for packet in (REQUEST, REPLY, REFUSED)[:n]) for n in range(3)
    }
    assert (not source.damage) == whole


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: STORY[:24] + tail)))
@example(b"\n\r\r\n" + bytes(30))
def test_arbitrary_bytes_are_read_or_a_value_error(data):
    try:
        source, seen = read_pcap(data, "x.pcap", source=0)
    except ValueError:
        return
    assert source.packets == source.datagrams + source.icmp_errors + source.skipped
    assert len(seen) <= source.packets


@given(st.integers(24, len(STORY) - 1), st.integers(0, 255))
def test_a_damaged_byte_behind_the_file_header_never_raises(position, value):
    damaged = STORY[:position] + bytes([value]) + STORY[position + 1 :]
    packets = [message.seen.packet for message in messages(damaged)]
    assert packets == sorted(packets)
