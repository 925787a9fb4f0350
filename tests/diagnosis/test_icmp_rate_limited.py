import pytest

from .facts_build import CLIENT, CLIENT6, SERVER, SERVER6, case, codes, flow, found, refused, talk

CODE = "icmp-rate-limited"


def scan(closed=60, heard=6, over=0.0, client=CLIENT, host="10.0.0.1", first=7000):
    """Ports of one host, the first `heard` of which are refused within `over` seconds."""
    for n in range(closed):
        one, at = f"{host}:{first + n}", 0.01 + over * n / max(heard - 1, 1)
        yield talk(client, one, flow(1), None, *([refused(client, one, first=at)] if n < heard else []))


def test_a_scan_of_closed_ports_hears_of_six():
    one = found(case(*scan()))[CODE]
    assert (one.severity, one.count) == ("note", 6)
    assert "sent 60 datagrams to 60 ports of 10.0.0.1, and 6 were refused" in one.summary
    assert one.why[1].startswith("icmpv4_xrlim_allow() on 10.0.0.1")
    assert codes(case(*scan())) == [(CODE, "note")]


def test_after_the_burst_one_a_second():
    assert codes(case(*scan(60, 20, over=14))) == [(CODE, "note")]


def test_many_datagrams_to_one_closed_port():
    many = talk(CLIENT, SERVER, flow(1000, 0, 10), None, refused(count=16, last=10))
    one = found(many)[CODE]
    assert f"sent 1000 datagrams to {SERVER}, and 16" in one.summary


def test_ipv6_lets_more_pass():
    many = talk(CLIENT6, SERVER6, flow(1000, 0, 10), None, refused(CLIENT6, SERVER6, count=60, last=10))
    assert "icmpv6_xrlim_allow()" in found(many)[CODE].why[1]


SILENT = {
    "every datagram is refused": case(*scan(6, 6)),
    "the errors come faster than the limit": case(*scan(60, 20, over=1)),
    "only two errors": case(*scan(60, 2)),
    "a few were lost": case(talk(CLIENT, SERVER, flow(10, 0, 9), None, refused(count=6, last=9))),
    "the port answers": case(talk(CLIENT, SERVER, flow(90, 0, 9), flow(3), refused(count=6, last=9))),
    "the others are one-way, not closed": case(
        talk(CLIENT, "10.0.0.1:8125", flow(900, 0, 9)),
        talk(CLIENT, "10.0.0.1:9000", flow(900, 0, 9)),
        talk(CLIENT, SERVER, flow(4, 0, 9), None, refused(count=4, last=9)),
    ),
    "the ports are of different hosts": case(
        *(one for n in range(10) for one in scan(6, 1, host=f"10.0.1.{n}")),
    ),
}


@pytest.mark.parametrize("given", SILENT.values(), ids=SILENT)
def test_silent_where(given):
    from udpkit.diagnosis.rules import icmp_rate_limited

    assert list(icmp_rate_limited.find(given)) == []
