"""Run it with `pytest`, where udpkit is installed."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_it_answers_from_the_address_that_was_asked(multihomed_server):
    tested = multihomed_server([sys.executable, HERE / "server.py"], payload="hello")
    tested.check()
    assert tested.one("192.0.2.9").answer == "5 bytes"


@pytest.mark.xfail(reason="a plain server", strict=True)
def test_a_plain_server(multihomed_server):
    multihomed_server([sys.executable, HERE / "plain_server.py"], payload="hello").check()


def test_hosts_of_my_own(udp_lab):
    server, client = udp_lab.host("server"), udp_lab.host("client")
    udp_lab.link(client, "eth0", server, "eth0")
    server.address("eth0", "192.0.2.1/24")
    client.address("eth0", "192.0.2.2/24")
    assert "192.0.2.1" in server.ip("address show eth0")
