from udpkit.evidence.counters import meaning, udp_counters


def test_the_counters_that_mean_something_by_the_names_of_nstat(tmp_path):
    (tmp_path / "snmp").write_text("Ip: InDelivers\nIp: 7\nUdp: InDatagrams NoPorts\nUdp: 5 2\n")
    (tmp_path / "snmp6").write_text("Ip6InReceives 9\nUdp6InErrors 3\n")
    (tmp_path / "netstat").write_text(
        "TcpExt: TW IPReversePathFilter\nTcpExt: 9 4\nIpExt: InOctets\nIpExt: 1\n"
    )
    counters = udp_counters(tmp_path)
    assert counters == {"UdpNoPorts": 2, "Udp6InErrors": 3, "TcpExtIPReversePathFilter": 4}
    assert all(meaning(name) for name in counters)
    assert "rp_filter" in meaning("TcpExtIPReversePathFilter")


def test_what_is_missing_or_makes_no_sense_is_left_out(tmp_path):
    (tmp_path / "snmp").write_text("Udp: NoPorts\nUdp: many\n")
    (tmp_path / "netstat").write_text("TcpExt: IPReversePathFilter\n")
    assert udp_counters(tmp_path) == {}
