//! The forms of tcpdump's lines, one by one. Lines are of real runs of tcpdump 4.99.3 where its options are named,
//! or as people posted them of older ones.

use std::net::{IpAddr, SocketAddr};

use udpkit_capture::{Checksum, Clock, Message, Messages};
use udpkit_text::{Services, Tcpdump, is_tcpdump};

fn read(text: &[u8]) -> Tcpdump<&[u8]> {
    Tcpdump::new(text, Services::default())
}

/// Each message in a line, led by its line's number; names in the place of their addresses.
fn messages(text: &[u8]) -> Vec<String> {
    let mut reader = read(text);
    let mut messages = Vec::new();
    while let Some(stamped) = reader.next_message() {
        messages.push((stamped.number, line(&stamped.message)));
    }
    let named = |line: String| {
        reader.names().iter().fold(line, |line, (address, name)| line.replace(&address.to_string(), name))
    };
    messages.into_iter().map(|(number, line)| format!("{number} {}", named(line))).collect()
}

fn line(message: &Message<'_>) -> String {
    let flow = |from: SocketAddr, to: SocketAddr| format!("{from} > {to}");
    match *message {
        Message::Datagram { source, destination, length, checksum, .. } => {
            let checksum = match checksum {
                Checksum::Fine => " fine",
                Checksum::Wrong => " wrong",
                Checksum::Unknown => "",
            };
            format!("{} {length}{checksum}", flow(source, destination))
        }
        Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted } => {
            let mtu = mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
            let length =
                quoted.and_then(|quoted| quoted.length).map(|at| format!(" {at}")).unwrap_or_default();
            let quoted = quoted.map_or("?".to_owned(), |quoted| flow(quoted.source, quoted.destination));
            format!("{sender} to {receiver}: {icmp_type}/{code} {quoted}{length}{mtu}")
        }
        Message::FragmentLost { .. } => unreachable!("text cannot tell"),
    }
}

#[test]
fn evidence() {
    assert_eq!(
        messages(include_bytes!("data/docker0-nc-named-port.txt")),
        [
            "3 172.17.0.2:44182 > 192.168.106.242:5678 6",
            "6 172.17.0.1:5678 > 172.17.0.2:44182 6",
            "7 172.17.0.2 to 172.17.0.1: 3/3 172.17.0.1:5678 > 172.17.0.2:44182",
        ]
    );
    assert_eq!(
        messages(include_bytes!("data/docker0-nc.txt")),
        [
            "1 172.17.0.3:38908 > 172.16.13.13:56789 6",
            "2 172.17.0.1:56789 > 172.17.0.3:38908 6",
            "3 172.17.0.3 to 172.17.0.1: 3/3 172.17.0.1:56789 > 172.17.0.3:38908",
            "4 172.17.0.3:38908 > 172.16.13.13:56789 3",
            "5 172.16.13.13 to 172.17.0.3: 3/3 172.17.0.3:38908 > 172.16.13.13:56789",
        ]
    );
    let errors = messages(include_bytes!("data/icmp-unreachable.txt"));
    assert_eq!(errors.len(), 4);
    // Nothing tells from which port the datagrams came.
    assert_eq!(errors[0], "3 172.16.0.46 to 172.16.0.62: 3/3 172.16.0.62:0 > 172.16.0.46:8888");
}

/// One line each, and what it says; "" for a packet that is not ours.
const LINES: &[(&str, &str)] = &[
    // tcpdump -n
    ("11:20:43.973286 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6", "10.0.0.1:5 > 10.0.0.2:6 6"),
    (
        "22:13:36.500000 IP 10.0.0.1.5353 > 10.0.0.2.53: 12345+ A? example.org. (29)",
        "10.0.0.1:5353 > 10.0.0.2:53 29",
    ),
    (
        "22:13:38.000000 IP 10.0.0.2.53 > 10.0.0.1.5353: 12345 NXDomain [0q] 0/0/0 (12)",
        "10.0.0.2:53 > 10.0.0.1:5353 12",
    ),
    (
        "22:13:38.000000 IP 10.0.0.2.53 > 10.0.0.1.5353: 12345 1/0/0 A 1.2.3.4 (45)",
        "10.0.0.2:53 > 10.0.0.1:5353 45",
    ),
    (
        "22:13:47.000000 IP 10.0.0.1.2001 > 10.0.0.2.161:  GetRequest(25)  .1.3.6.1.2.1.1.1.0",
        "10.0.0.1:2001 > 10.0.0.2:161 0",
    ),
    (
        "22:13:50.000000 IP 10.0.0.1.1812 > 10.0.0.2.1812: RADIUS, Access-Request (1), id: 0x05 length: 20",
        "10.0.0.1:1812 > 10.0.0.2:1812 20",
    ),
    (
        "22:13:51.500000 IP 10.0.0.1.5060 > 10.0.0.2.5060: SIP: OPTIONS sip:a@b SIP/2.0",
        "10.0.0.1:5060 > 10.0.0.2:5060 0",
    ),
    (
        "13:38:25.134349 IP 10.0.0.1.5 > 10.0.0.2.53: domain [length 0 < 12] (invalid)",
        "10.0.0.1:5 > 10.0.0.2:53 0",
    ),
    ("20:21:44.837063 IP 10.0.0.1.5 > 10.0.0.2.53: [|domain]", "10.0.0.1:5 > 10.0.0.2:53 0"),
    (
        "20:21:44.837063 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, bad length 2000 > 1472",
        "10.0.0.1:5 > 10.0.0.2:6 2000",
    ),
    (
        "20:21:44.837063 IP 10.0.0.1.5 > 10.0.0.2.6081: Geneve, Flags [none], vni 0xb: IP 30.0.0.2.7 > 30.0.0.1.8: UDP, length 1",
        "10.0.0.1:5 > 10.0.0.2:6081 0",
    ),
    (
        "20:21:44.837063 IP truncated-ip - 100 bytes missing! 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6",
        "10.0.0.1:5 > 10.0.0.2:6 6",
    ),
    (
        "20:21:44.837063 IP6 fe80::1.5353 > ff02::fb.5353: 0 PTR (QM)? _ipp._tcp.local. (31)",
        "[fe80::1]:5353 > [ff02::fb]:5353 31",
    ),
    (
        "20:21:44.837063 IP6 fe80::1 > fe80::2: frag (0|1448) 1234 > 53: UDP, length 2000",
        "[fe80::1]:1234 > [fe80::2]:53 2000",
    ),
    ("20:21:44.837063 IP6 fe80::1 > fe80::2: frag (1448|560)", ""),
    (
        "20:21:44.837063 IP6 fe80::1 > fe80::2: HBH 1234 > 53: UDP, length 6",
        "[fe80::1]:1234 > [fe80::2]:53 6",
    ),
    (
        "20:21:44.837063 IP6 fe80::1 > ff02::16: HBH ICMP6, multicast listener report v2, 1 group record(s), length 28",
        "",
    ),
    ("20:21:44.837063 IP 10.0.0.1 > 10.0.0.2: ip-proto-17", ""),
    ("20:21:44.837063 IP 10.0.0.1 > 10.0.0.2: udp", ""),
    (
        "20:21:44.837063 IP 10.0.0.1 > 10.0.0.2: IP6 fd00::1.5 > fd00::2.6: UDP, length 6",
        "[fd00::1]:5 > [fd00::2]:6 6",
    ),
    ("20:21:44.837063 IP 10.0.0.1.80 > 10.0.0.2.6: Flags [S], seq 1, win 1000, length 0", ""),
    ("20:21:44.837063 IP 10.0.0.1.80 > 10.0.0.2.6: sctp (1) [INIT]", ""),
    ("20:21:44.837063 IP 10.0.0.1.80 > 10.0.0.2.6: tcp 0", ""),
    ("20:21:44.837063 IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 12", ""),
    ("20:21:44.837063 IP 10.0.0.1 > 224.0.0.1: igmp query v3", ""),
    ("20:21:44.837063 ARP, Request who-has 172.17.0.1 tell 172.17.0.2, length 28", ""),
    ("20:21:44.837063 STP 802.1d, Config, Flags [none], bridge-id 8000.00", ""),
    (
        "20:21:44.837063 MPLS (label 100704, tc 0, [S], ttl 1) IP 12.4.4.4.42315 > 12.1.1.1.33435: UDP, length 12",
        "12.4.4.4:42315 > 12.1.1.1:33435 12",
    ),
    // -i any, 4.99
    ("14:00:00.000000 eth0  In  IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6", "10.0.0.1:5 > 10.0.0.2:6 6"),
    ("14:00:00.000000 wg0   Out IP6 fd00::1.5 > fd00::2.6: UDP, length 6", "[fd00::1]:5 > [fd00::2]:6 6"),
    ("eth0  B   IP 10.0.0.1.5 > 10.0.0.255.6: UDP, length 6", "10.0.0.1:5 > 10.0.0.255:6 6"),
    // -e; -e -q; -e of -i any, new and old
    (
        "14:00:00.000000 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 48: 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6",
        "10.0.0.1:5 > 10.0.0.2:6 6",
    ),
    (
        "14:00:00.000000 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 802.1Q (0x8100), length 52: vlan 5, p 0, ethertype IPv4 (0x0800), 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6",
        "10.0.0.1:5 > 10.0.0.2:6 6",
    ),
    (
        "14:00:00.000000 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv6 (0x86dd), length 64: fd00::1.5 > fd00::2.6: UDP, length 2",
        "[fd00::1]:5 > [fd00::2]:6 2",
    ),
    (
        "14:00:00.000000 02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4, length 48: 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6",
        "10.0.0.1:5 > 10.0.0.2:6 6",
    ),
    (
        "14:00:00.000000 eth0  In  ifindex 2 02:00:00:00:00:01 ethertype IPv4 (0x0800), length 54: 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6",
        "10.0.0.1:5 > 10.0.0.2:6 6",
    ),
    (
        "14:00:00.000000  In 02:00:00:00:00:01 ethertype IPv4 (0x0800), length 50: 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6",
        "10.0.0.1:5 > 10.0.0.2:6 6",
    ),
    (
        "14:00:00.000000 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype ARP (0x0806), length 42: Request who-has 10.0.0.1 tell 10.0.0.2, length 28",
        "",
    ),
    // -t, -tt, -tttt, -#
    ("IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6", "10.0.0.1:5 > 10.0.0.2:6 6"),
    ("1700000000.000001 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6", "10.0.0.1:5 > 10.0.0.2:6 6"),
    ("2023-11-14 22:13:20.000000 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6", "10.0.0.1:5 > 10.0.0.2:6 6"),
    ("    1  22:13:20.000000 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6", "10.0.0.1:5 > 10.0.0.2:6 6"),
    // without -n
    (
        "14:00:00.000000 IP localhost.34567 > localhost.domain: 1+ A? a. (17)",
        "localhost:34567 > localhost:53 17",
    ),
    (
        "14:00:00.000000 IP ns-1.example.org.domain > _gateway.mdns: UDP, length 6",
        "ns-1.example.org:53 > _gateway:5353 6",
    ),
    (
        "14:00:00.000000 IP6 ip6-localhost.34567 > ip6-localhost.ntp: NTPv4, Client, length 48",
        "[ip6-localhost]:34567 > [ip6-localhost]:123 48",
    ),
    ("14:00:00.000000 IP web.example.http > host.example.5: Flags [.], ack 1, win 1, length 0", ""),
    ("14:00:00.000000 IP router.example > host.example: OSPFv2, Hello, length 44", ""),
    // tcpdump 3
    ("14:00:00.000000 10.0.0.1.1234 > 10.0.0.2.53:  12+ A? x. (28) (DF)", "10.0.0.1:1234 > 10.0.0.2:53 0"),
    ("14:00:00.000000 10.0.0.1.5 > 10.0.0.2.6: udp 6 (DF)", "10.0.0.1:5 > 10.0.0.2:6 6"),
    ("14:00:00.000000 10.0.0.1.5 > 10.0.0.2.6: udp 2000 (frag 123:1480@0+)", "10.0.0.1:5 > 10.0.0.2:6 2000"),
    ("14:00:00.000000 10.0.0.1 > 10.0.0.2: udp (frag 123:528@1480)", ""),
    ("14:00:00.000000 10.0.0.1.80 > 10.0.0.2.6: S 1:1(0) win 5840 <mss 1460>", ""),
    ("14:00:00.000000 10.0.0.1.80 > 10.0.0.2.6: . ack 1 win 5840", ""),
    (
        "14:00:00.000000 10.0.0.2 > 10.0.0.1: icmp: 10.0.0.2 udp port 53 unreachable [tos 0xc0]",
        "10.0.0.2 to 10.0.0.1: 3/3 10.0.0.1:0 > 10.0.0.2:53",
    ),
    (
        "14:00:00.000000 IP (tos 0x0, ttl  64, id 1, offset 0, flags [DF], length: 34) 10.0.0.1.5 > 10.0.0.2.6: [udp sum ok] UDP, length: 6",
        "10.0.0.1:5 > 10.0.0.2:6 6 fine",
    ),
    // Errors that say that they are UDP's
    (
        "14:00:00.000000 IP 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 protocol 17 unreachable, length 36",
        "10.0.0.2 to 10.0.0.1: 3/2 ?",
    ),
    (
        "14:00:00.000000 IP a.example > b.example: ICMP a.example udp port domain unreachable, length 36",
        "a.example to b.example: 3/3 b.example:0 > a.example:53",
    ),
    (
        "14:00:00.000000 IP6 fd00::2 > fd00::1: ICMP6, destination unreachable, unreachable port, fd00::2 udp port 53, length 60",
        "fd00::2 to fd00::1: 1/4 [fd00::1]:0 > [fd00::2]:53",
    ),
    ("14:00:00.000000 IP 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 tcp port 80 unreachable, length 36", ""),
    ("14:00:00.000000 IP 10.0.0.9 > 10.0.0.1: ICMP redirect 10.0.0.2 to host 10.0.0.3, length 36", ""),
    // -vv and IPv6
    (
        "14:00:00.000000 IP6 (hlim 64, next-header UDP (17) payload length: 10) fd00::1.5 > fd00::2.6: [udp sum ok] UDP, length 2",
        "[fd00::1]:5 > [fd00::2]:6 2 fine",
    ),
];

#[test]
fn forms() {
    for (text, expected) in LINES {
        let mut reader = read(text.as_bytes());
        let said = messages(text.as_bytes()).join("; ");
        assert_eq!(said.trim_start_matches("1 "), *expected, "{text}");
        while reader.next_message().is_some() {}
        assert_eq!(reader.tally().packets, 1, "{text}");
        assert!(reader.tally().unread.is_empty(), "{text}: {:?}", reader.tally().unread);
        let alone = text.contains("ARP") || text.contains("STP");
        assert_eq!(is_tcpdump(text.as_bytes()), !alone, "{text}");
    }
}

#[test]
fn what_people_paste() {
    let packet = "14:48:42.514345 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6";
    for text in [
        format!("> {packet}"),
        format!(">> {packet}"),
        format!("    {packet}  \r"),
        format!("- {packet}"),
        format!("* {packet}"),
        format!("12: {packet}"),
        format!("\x1b[32m{packet}\x1b[0m"),
        packet.replace('>', "&gt;"),
        packet.replace(' ', "\u{a0}"),
        format!("\u{feff}{packet}"),
        format!("root@host:~# {packet}"),
        format!("[root@host ~]# {packet}"),
        format!("Nov 21 12:00:00 host tcpdump[12]: {packet}"),
        format!("tcpdump_1  | {packet}"),
        format!("caf\u{e9} \u{fffd} {packet}"),
    ] {
        assert_eq!(messages(text.as_bytes()), ["1 10.0.0.1:5 > 10.0.0.2:6 6"], "{text:?}");
        assert!(is_tcpdump(text.as_bytes()), "{text:?}");
    }
}

#[test]
fn what_is_no_packet() {
    for text in [
        "",
        "a > b: c",
        "see 10.0.0.1 > 10.0.0.2: it is larger",
        "the server answers IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6 when asked",
        "write(1, \"14:48:42.514345 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6\\n\", 59) = 59",
        "I saw \"14:48:42.514345 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6\" in the log",
        "[pid   477] 10:00:00.000001 recvfrom(124, \"j\", 2048, 0, {sa_family=AF_INET, sin_port=htons(5)}, [16]) = 1",
        "10:00:00.000001 sendto(3, \"IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6\", 41, 0, NULL, 0) = 41",
        "udp    ESTAB  0  0  10.0.0.1:5  10.0.0.2:6  users:((\"nc\",pid=1,fd=3))",
        "nc 1 root 3u IPv4 123 0t0 UDP 10.0.0.1:5->10.0.0.2:6",
        "\t0x0010:  0a00 0001 0a00 0002 0005 0006 000e 0000  1.2.3.4.5 > 6.7.8.9.10: UDP, length 6",
        "12:00:00 dnsmasq[1]: query[A] example.org from 10.0.0.1",
        "12:00:00 copied a.txt > b.txt: done",
        "12:00:00.5 main.py > out.log: 12 lines",
        "10.0.0.1.5 > 10.0.0.2.6",
    ] {
        assert_eq!(messages(text.as_bytes()), [""; 0], "{text}");
        let claimed = text == "10.0.0.1.5 > 10.0.0.2.6";
        assert_eq!(is_tcpdump(text.as_bytes()), claimed, "{text}");
    }
    for other in [
        &include_bytes!("data/dnsmasq.strace")[..],
        include_bytes!("data/dual-stack-kdc.strace"),
        include_bytes!("data/nc-listen.strace"),
        include_bytes!("data/ncat-probe.strace"),
        include_bytes!("data/netstat-before-after.txt"),
    ] {
        assert!(!is_tcpdump(other));
        assert_eq!(messages(other), [""; 0]);
    }
}

#[test]
fn a_banner_or_chatter_comes_first() {
    for head in [
        "$ sudo tcpdump -ni docker0\ntcpdump: verbose output suppressed, use -v or -vv for full protocol decode\n",
        "listening on any, link-type LINUX_SLL2 (Linux cooked v2), snapshot length 262144 bytes\n",
        "tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n",
        "Hello,\nit does not work:\n\n14:48:42.5 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6\n",
        "12:00:00 server started\n14:48:42.5 IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto UDP (17), length 34)\n",
    ] {
        assert!(is_tcpdump(head.as_bytes()), "{head}");
    }
}

#[test]
fn the_latest_datagram_is_the_one_in_error() {
    let text = "\
10:00:00.0 IP 10.0.0.1.1000 > 10.0.0.2.53: UDP, length 6
10:00:00.1 IP 10.0.0.1.1001 > 10.0.0.2.53: UDP, length 6
10:00:00.2 IP 10.0.0.1.1002 > 10.0.0.2.54: UDP, length 6
10:00:00.3 IP 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 udp port 53 unreachable, length 42
10:00:00.4 IP 10.0.0.9 > 10.0.0.1: ICMP host 10.0.0.2 unreachable - admin prohibited filter, length 42
10:00:00.5 IP 10.0.0.9 > 10.0.0.1: ICMP time exceeded in-transit, length 42
10:00:00.6 IP 10.0.0.1.1003 > 10.0.0.2.80: Flags [S], seq 1, win 1, length 0
10:00:00.7 IP 10.0.0.9 > 10.0.0.1: ICMP host 10.0.0.2 unreachable, length 42
10:00:00.8 IP 10.0.0.9 > 10.0.0.5: ICMP host 10.0.0.2 unreachable, length 42
";
    assert_eq!(
        messages(text.as_bytes())[3..],
        [
            "4 10.0.0.2 to 10.0.0.1: 3/3 10.0.0.1:1001 > 10.0.0.2:53",
            "5 10.0.0.9 to 10.0.0.1: 3/13 10.0.0.1:1002 > 10.0.0.2:54",
            "6 10.0.0.9 to 10.0.0.1: 11/0 ?",
        ]
    );
    let mut reader = read(text.as_bytes());
    while reader.next_message().is_some() {}
    assert_eq!(reader.tally().unread.values().sum::<u64>(), 2, "the error may be about TCP");
}

#[test]
fn a_quote_without_its_tabs_and_with_chatter() {
    // -v, pasted where the blanks were lost, and a log's line between.
    let text = "\
22:13:23.0 IP (tos 0x0, ttl 64, id 0, offset 0, flags [DF], proto ICMP (1), length 61)
kernel: something else
10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 udp port 6000 unreachable, length 41
IP (tos 0x0, ttl 64, id 0, offset 0, flags [DF], proto UDP (17), length 33)
10.0.0.1.4000 > 10.0.0.2.6000: UDP, length 5
22:13:24.0 IP (tos 0x0, ttl 64, id 0, offset 0, flags [DF], proto UDP (17), length 33)
22:13:25.0 IP (tos 0x0, ttl 64, id 0, offset 0, flags [DF], proto UDP (17), length 33)
10.0.0.1.4000 > 10.0.0.2.6000: UDP, length 5
";
    assert_eq!(
        messages(text.as_bytes()),
        ["1 10.0.0.2 to 10.0.0.1: 3/3 10.0.0.1:4000 > 10.0.0.2:6000 5", "7 10.0.0.1:4000 > 10.0.0.2:6000 5"]
    );
    let mut reader = read(text.as_bytes());
    while reader.next_message().is_some() {}
    assert_eq!(reader.tally().packets, 3);
    assert_eq!(reader.tally().damage, ["line 6: the line with the packet's addresses is missing"]);
}

#[test]
fn checksums() {
    // The pseudo-header of 10.0.0.1, 10.0.0.2, 17 and 14 sums up to 0x1422.
    for (sum, expected) in [("0x1422", Checksum::Fine), ("0x1423", Checksum::Wrong)] {
        let text = format!(
            "1.1.1.1.1 > 1.1.1.1.1: UDP\n10:00:00.0 IP 10.0.0.1.5 > 10.0.0.2.6: [bad udp cksum {sum} -> 0x9ec0!] UDP, length 6\n"
        );
        let mut reader = read(text.as_bytes());
        let mut last = None;
        while let Some(stamped) = reader.next_message() {
            if let Message::Datagram { checksum, .. } = stamped.message {
                last = Some(checksum);
            }
        }
        assert_eq!(last, Some(expected), "{sum}");
    }
    let unsure = "10:00:00.0 IP a.b.5 > 10.0.0.2.6: [bad udp cksum 0x1422 -> 0x9ec0!] UDP, length 6\n";
    assert!(messages(unsure.as_bytes())[0].ends_with(" 6"), "a name has no pseudo-header");
}

#[test]
fn unread_says_what_to_do() {
    for (line, reason) in [
        ("10:00:00.0 IP 10.0.0.1.5 > 10.0.0.2.no-such-port: UDP, length 6", "run tcpdump with -n"),
        ("10:00:00.0 IP 10.0.0.1.5 > 10.0.0.2.56", "cut off"),
        ("10:00:00.0 IP 10.0.0.1.5 > 10.0.0.2.56:", "cut off"),
        ("10:00:00.0 IP 10.0.0.1.5 > 10.0.0.2.56: Fl", "cut off"),
        ("10:00:00.0 IP 10.0.0.1 > 10.0.0.2: [|udp]", "ports were not captured"),
        (
            "10:00:00.0 IP 10.0.0.1 > 10.0.0.2: ICMP host 10.9.9.9 unreachable, length 36",
            "run tcpdump with -v",
        ),
    ] {
        let mut reader = read(line.as_bytes());
        assert!(reader.next_message().is_none(), "{line}");
        let unread = &reader.tally().unread;
        assert!(unread.len() == 1 && unread.keys().all(|why| why.contains(reason)), "{line}: {unread:?}");
    }
    let long = format!("10:00:00.0 IP 10.0.0.1.5 > 10.0.0.2.53: 1+ A? {}. (9)\n", "x".repeat(100_000));
    let mut reader = read(long.as_bytes());
    assert!(reader.next_message().is_some());
    assert!(reader.next_message().is_none());
    assert!(reader.tally().unread.keys().all(|why| why.contains("16 KiB")));
}

#[test]
fn what_the_kernel_dropped_is_told() {
    let text = "10:00:00.0 IP 10.0.0.1.5 > 10.0.0.2.6: UDP, length 6\n9 packets captured\n0 packets dropped by interface\n5 packets dropped by kernel\n";
    let mut reader = read(text.as_bytes());
    while reader.next_message().is_some() {}
    assert_eq!(reader.tally().damage, ["line 4: tcpdump says that 5 packets are missing"]);
    assert_eq!(reader.clock(), Clock::TimeOfDay);
    assert_eq!(reader.names(), [] as [(IpAddr, String); 0]);
}

#[test]
fn the_words_of_pflog_and_of_terminals() {
    let text = b"^C10:00:01.000000 rule 2/0(match): pass out on tun0: 10.0.0.1.40000 > 10.0.0.2.53: UDP, length 5^M\n\
        10:00:02.000000 rule 0.name.0/0(match): block in on lo0: 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 udp port 53 unreachable, length 36\n";
    assert_eq!(
        messages(text),
        ["1 10.0.0.1:40000 > 10.0.0.2:53 5", "2 10.0.0.2 to 10.0.0.1: 3/3 10.0.0.1:40000 > 10.0.0.2:53"]
    );
    assert!(is_tcpdump(text));
}

#[test]
fn an_error_about_a_tunnel_is_about_the_tunnels_own_datagram() {
    let text = b"10:00:01.000000 IP (tos 0xc0, ttl 64, id 1, offset 0, flags [none], proto ICMP (1), length 106)\n    \
        10.0.0.1 > 10.0.0.2: ICMP host 10.0.0.1 unreachable - admin prohibited filter, length 86\n\
        \tIP (tos 0x0, ttl 64, id 2, offset 0, flags [none], proto UDP (17), length 78)\n    \
        10.0.0.2.35195 > 10.0.0.1.4789: VXLAN, flags [I] (0x08), vni 100\n\
        ARP, Ethernet (len 6), IPv4 (len 4), Reply 10.9.0.2 is-at a6:45:d5:c4:93:1f, length 28\n";
    assert_eq!(messages(text), ["1 10.0.0.1 to 10.0.0.2: 3/13 10.0.0.2:35195 > 10.0.0.1:4789 50"]);
}

#[test]
fn a_web_page_took_the_arrows_for_tags() {
    let text = b"10:00:00.1 IP 10.0.0.9.40000 10.0.0.1.7000: UDP, length 5\n\
        10:00:00.2 IP 10.0.0.1 10.0.0.9: ICMP 10.0.0.1 udp port 7000 unreachable, length 41\n\
        10:00:00.3 IP 10.0.0.9 knows 10.0.0.1: it is near\n";
    assert!(is_tcpdump(text));
    assert_eq!(
        messages(text),
        ["1 10.0.0.9:40000 > 10.0.0.1:7000 5", "2 10.0.0.1 to 10.0.0.9: 3/3 10.0.0.9:40000 > 10.0.0.1:7000"]
    );
}

#[test]
fn a_quote_whose_error_was_cut_off_is_no_packet() {
    let text = b"ceeded, time exceeded in-transit, length 45\n\
        \tIP (tos 0x0, ttl 1, id 1, offset 0, flags [DF], proto UDP (17), length 37)\n    \
        10.0.0.9.40000 > 10.0.0.1.33434: UDP, length 9\n\
        10:00:00.1 IP (tos 0x0, ttl 2, id 2, offset 0, flags [DF], proto UDP (17), length 37)\n    \
        10.0.0.9.40000 > 10.0.0.1.33435: UDP, length 9\n";
    assert_eq!(messages(text), ["4 10.0.0.9:40000 > 10.0.0.1:33435 9"]);
}

#[test]
fn a_line_may_end_within_the_word_udp() {
    for cut in ["U", "UD", "UDP", "UDP,"] {
        let text = format!("10:00:00.1 IP 10.0.0.9.40000 > 10.0.0.1.7000: {cut}");
        assert_eq!(messages(text.as_bytes()), ["1 10.0.0.9:40000 > 10.0.0.1:7000 0"], "{cut}");
    }
}
