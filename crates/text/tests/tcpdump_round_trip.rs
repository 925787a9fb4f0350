//! A capture through the installed tcpdump, with each of its options, and back: every form of the text tells
//! of the same datagrams and errors.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use etherparse::{PacketBuilder, PacketBuilderStep, VlanId, ether_type, ip_number};
use udpkit_capture::{Checksum, Clock, Message, Messages};
use udpkit_text::{Services, Tcpdump, is_tcpdump};

const EPOCH: u64 = 1_700_000_000;

fn ethernet() -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

fn udp4(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(from.0, to.0, 64).udp(from.1, to.1);
    builder.write(&mut packet, payload).unwrap();
    packet
}

/// An IPv4 packet of any protocol.
fn ip4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from, to, 64).write(&mut packet, protocol.into(), payload).unwrap();
    packet
}

fn ip6(from: [u8; 16], to: [u8; 16], payload: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut inner = Vec::new();
    payload(&mut inner);
    let mut packet = Vec::new();
    PacketBuilder::ipv6(from, to, 64).write(&mut packet, ip_number::IPV6_ICMP, &inner).unwrap();
    packet
}

fn framed(ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &ether_type, packet].concat()
}

fn icmp4(from: [u8; 4], to: [u8; 4], kind: [u8; 8], quote: &[u8]) -> Vec<u8> {
    framed([8, 0], &ip4(1, from, to, &[&kind[..], quote].concat()))
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const C: [u8; 4] = [10, 9, 9, 9];
const ROUTER: [u8; 4] = [10, 0, 0, 254];
const A6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// Each frame, and what it says in a line.
fn frames() -> Vec<(Vec<u8>, &'static str)> {
    let query = b"\x30\x39\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
    let (asked, refused) = (udp4((A, 4000), (B, 6000), b"hello"), udp4((A, 4001), (C, 7000), &[7; 600]));
    let mut six = Vec::new();
    ethernet().ipv6(A6, B6, 64).udp(5000, 6001).write(&mut six, b"hi").unwrap();
    let mut vlan_frame = Vec::new();
    let tagged = ethernet().single_vlan(VlanId::try_new(5).unwrap());
    tagged.ipv4(A, B, 64).udp(4000, 6000).write(&mut vlan_frame, b"in a vlan").unwrap();
    let mut syn = Vec::new();
    ethernet().ipv4(B, A, 64).tcp(80, 8080, 1, 1000).syn().write(&mut syn, &[]).unwrap();
    let mut echo = Vec::new();
    ethernet().ipv4(B, A, 64).icmpv4_echo_request(1, 1).write(&mut echo, b"ping").unwrap();
    let mut wrong = framed([8, 0], &udp4((A, 4000), (B, 6000), b"damaged"));
    *wrong.last_mut().unwrap() ^= 1;
    // The first of two fragments, and the second.
    let whole = udp4((A, 4000), (B, 6000), &[9; 64]);
    let mut first = whole[..20 + 48].to_vec();
    first[2..4].copy_from_slice(&68_u16.to_be_bytes());
    first[6] = 0x20;
    let mut second = [&whole[..20], &whole[68..]].concat();
    second[2..4].copy_from_slice(&44_u16.to_be_bytes());
    (second[6], second[7]) = (0, 6);
    let inner = udp4(([192, 168, 0, 1], 1111), ([192, 168, 0, 2], 2222), b"inside");
    let gre = [&[0, 0, 8, 0][..], &inner].concat();
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &framed([8, 0], &inner)].concat();
    let vxlan_arp = [
        &[8, 0, 0, 0, 0, 0, 7, 0][..],
        &framed(
            [8, 6],
            &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2],
        ),
    ]
    .concat();
    let icmp6 = |kind: [u8; 8]| {
        let quote = &six[14..];
        framed(ether_type::IPV6.0.to_be_bytes(), &ip6(B6, A6, |to| to.extend([&kind[..], quote].concat())))
    };
    let udp = |packet: &[u8]| framed([8, 0], packet);
    vec![
        (udp(&asked), "10.0.0.1:4000 > 10.0.0.2:6000"),
        (udp(&refused), "10.0.0.1:4001 > 10.9.9.9:7000"),
        (icmp4(B, A, [3, 3, 0, 0, 0, 0, 0, 0], &asked), "10.0.0.2 to 10.0.0.1: 3/3 10.0.0.1:4000 > 10.0.0.2:6000"),
        (icmp4(ROUTER, A, [3, 1, 0, 0, 0, 0, 0, 0], &refused[..28]), "10.0.0.254 to 10.0.0.1: 3/1 10.0.0.1:4001 > 10.9.9.9:7000"),
        (icmp4(ROUTER, A, [3, 4, 0, 0, 0, 0, 5, 120], &refused[..28]), "10.0.0.254 to 10.0.0.1: 3/4 10.0.0.1:4001 > 10.9.9.9:7000 mtu 1400"),
        (icmp4(ROUTER, A, [3, 13, 0, 0, 0, 0, 0, 0], &refused[..28]), "10.0.0.254 to 10.0.0.1: 3/13 10.0.0.1:4001 > 10.9.9.9:7000"),
        (six.clone(), "[fd00::1]:5000 > [fd00::2]:6001"),
        (icmp6([1, 4, 0, 0, 0, 0, 0, 0]), "fd00::2 to fd00::1: 1/4 [fd00::1]:5000 > [fd00::2]:6001"),
        (icmp6([1, 1, 0, 0, 0, 0, 0, 0]), "fd00::2 to fd00::1: 1/1 [fd00::1]:5000 > [fd00::2]:6001"),
        (icmp6([2, 0, 0, 0, 0, 0, 5, 0]), "fd00::2 to fd00::1: 2/0 [fd00::1]:5000 > [fd00::2]:6001 mtu 1280"),
        (icmp6([3, 0, 0, 0, 0, 0, 0, 0]), "fd00::2 to fd00::1: 3/0 [fd00::1]:5000 > [fd00::2]:6001"),
        (udp(&udp4((A, 5353), (B, 53), query)), "10.0.0.1:5353 > 10.0.0.2:53"),
        (udp(&udp4((B, 53), (A, 5353), b"\x30\x39\x81\x83\0\0\0\0\0\0\0\0")), "10.0.0.2:53 > 10.0.0.1:5353"),
        (udp(&udp4((A, 123), (B, 123), &[0x23; 48])), "10.0.0.1:123 > 10.0.0.2:123"),
        (udp(&udp4((A, 68), (B, 67), &[1; 300])), "10.0.0.1:68 > 10.0.0.2:67"),
        (udp(&udp4((A, 2000), (B, 69), b"\0\x01file\0octet\0")), "10.0.0.1:2000 > 10.0.0.2:69"),
        (udp(&udp4((A, 514), (B, 514), b"<13>hello")), "10.0.0.1:514 > 10.0.0.2:514"),
        (udp(&udp4((A, 137), (B, 137), &[0; 50])), "10.0.0.1:137 > 10.0.0.2:137"),
        (udp(&udp4((A, 2001), (B, 161), b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x05\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0")), "10.0.0.1:2001 > 10.0.0.2:161"),
        (udp(&udp4((A, 500), (B, 500), &[5; 28])), "10.0.0.1:500 > 10.0.0.2:500"),
        (udp(&udp4((A, 1812), (B, 1812), b"\x01\x05\0\x14aaaaaaaaaaaaaaaa")), "10.0.0.1:1812 > 10.0.0.2:1812"),
        (udp(&udp4((A, 5060), (B, 5060), b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\n\r\n")), "10.0.0.1:5060 > 10.0.0.2:5060"),
        (udp(&udp4((A, 2002), (B, 520), &[2, 2, 0, 0])), "10.0.0.1:2002 > 10.0.0.2:520"),
        (udp(&udp4((A, 2003), (B, 53), &[])), "10.0.0.1:2003 > 10.0.0.2:53"),
        (vlan_frame, "10.0.0.1:4000 > 10.0.0.2:6000"),
        (syn, ""),
        (echo, ""),
        (wrong, "10.0.0.1:4000 > 10.0.0.2:6000 wrong"),
        (udp(&first), "10.0.0.1:4000 > 10.0.0.2:6000"),
        (udp(&second), ""),
        (udp(&ip4(4, A, B, &inner)), "192.168.0.1:1111 > 192.168.0.2:2222"),
        (udp(&ip4(47, A, B, &gre)), "192.168.0.1:1111 > 192.168.0.2:2222"),
        (udp(&udp4((A, 40000), (B, 4789), &vxlan)), "192.168.0.1:1111 > 192.168.0.2:2222"),
        (udp(&udp4((A, 40000), (B, 4789), &vxlan_arp)), "10.0.0.1:40000 > 10.0.0.2:4789"),
        (udp(&asked), "10.0.0.1:4000 > 10.0.0.2:6000"),
    ]
}

/// A pcap file, a frame every 1.5 seconds.
fn pcap(frames: &[(Vec<u8>, &str)]) -> Vec<u8> {
    let mut file = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0".to_vec();
    for (index, (frame, _)) in frames.iter().enumerate() {
        let index = u32::try_from(index).unwrap();
        let length = u32::try_from(frame.len()).unwrap();
        let seconds = u32::try_from(EPOCH).unwrap() + index * 3 / 2;
        for word in [seconds, index % 2 * 500_000, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

fn tcpdump(options: &[&str], capture: &[u8]) -> String {
    // In a user namespace tcpdump, as root without capabilities, does not fail to become another user.
    let mut child = Command::new("unshare")
        .args(["--user", "tcpdump", "-n", "-r", "-"])
        .args(options)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare and tcpdump are there: packages.txt");
    child.stdin.take().unwrap().write_all(capture).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn line(message: &Message<'_>, checksums: bool) -> String {
    let flow = |from: SocketAddr, to: SocketAddr| format!("{from} > {to}");
    match *message {
        Message::Datagram { source, destination, checksum, .. } => {
            let wrong = if checksum == Checksum::Wrong && checksums { " wrong" } else { "" };
            flow(source, destination) + wrong
        }
        Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted } => {
            let quoted = quoted.map(|quoted| flow(quoted.source, quoted.destination)).unwrap_or_default();
            let mtu = mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
            format!("{sender} to {receiver}: {icmp_type}/{code} {quoted}{mtu}")
        }
        Message::FragmentLost { .. } => unreachable!("text cannot tell"),
    }
}

#[test]
fn every_option_tells_the_same() {
    let frames = frames();
    let capture = pcap(&frames);
    let in_vxlan = frames.iter().filter(|frame| !frame.1.is_empty()).count() - 3;
    for options in [
        "",
        "-v",
        "-vv",
        "-vvv",
        "-e",
        "-e -v",
        "-q",
        "-q -e",
        "-t",
        "-t -v",
        "-tt",
        "-tt -e -vv",
        "-ttt",
        "-tttt",
        "-tttt -v",
        "-ttttt",
        "-A",
        "-A -v",
        "-x",
        "-X -vv",
        "-xx -e",
        "-XX -v -e",
        "-#",
        "-# -v",
        "--nano",
        "-tt --nano",
        "-S",
        "-K -v",
    ] {
        let text = tcpdump(&options.split_ascii_whitespace().collect::<Vec<_>>(), &capture);
        assert!(is_tcpdump(text.as_bytes()), "{options}");
        // tcpdump tells IPv4 checksums from -vv on.
        let verbose = options.contains("-vv");
        let mut reader = Tcpdump::new(text.as_bytes(), Services::default());
        let (mut lines, mut times, mut last) = (Vec::new(), Vec::new(), 0);
        while let Some(message) = reader.next_message() {
            assert!(message.number > last, "{options}");
            last = message.number;
            times.push(message.time_ns);
            lines.push(line(&message.message, verbose));
        }
        let sum = |line: &str| if verbose { line.to_owned() } else { line.replace(" wrong", "") };
        let mut expected: Vec<String> =
            frames.iter().map(|frame| frame.1).filter(|line| !line.is_empty()).map(sum).collect();
        if options.starts_with("-q") {
            // Nothing is said of what VXLAN carries.
            expected[in_vxlan] = "10.0.0.1:40000 > 10.0.0.2:4789".to_owned();
        }
        assert_eq!(lines, expected, "{options}\n{text}");
        assert_eq!(reader.tally().packets, frames.len() as u64, "{options}\n{text}");
        assert_eq!(reader.tally().unread, [].into(), "{options}");
        assert_eq!(reader.tally().damage, [""; 0], "{options}");
        let errors = expected.iter().filter(|line| line.contains(" to ")).count() as u64;
        assert_eq!(reader.tally().icmp_errors, errors, "{options}");
        assert_eq!(reader.tally().datagrams, expected.len() as u64 - errors, "{options}");

        let every: Vec<u64> = (0..frames.len() as u64).map(|index| index * 1_500_000_000).collect();
        let expected =
            every.iter().zip(&frames).filter(|(_, frame)| !frame.1.is_empty()).map(|(time, _)| *time);
        let words: Vec<&str> = options.split_ascii_whitespace().collect();
        let epoch = words.contains(&"-tt") || words.contains(&"-tttt");
        assert_eq!(reader.clock(), if epoch { Clock::Epoch } else { Clock::TimeOfDay }, "{options}");
        if words.contains(&"-t") {
            assert!(times.iter().all(Option::is_none));
        } else if words.contains(&"-ttt") {
            // All gaps are equal: nothing tells that they are gaps, but the order holds.
            assert!(times.is_sorted(), "{options}");
        } else {
            let start = if epoch { EPOCH * 1_000_000_000 } else { times[0].unwrap() };
            let times: Vec<u64> = times.iter().map(|time| time.unwrap() - start).collect();
            assert_eq!(times, expected.collect::<Vec<_>>(), "{options}");
        }
    }
}
