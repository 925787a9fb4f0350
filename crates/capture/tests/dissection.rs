//! What packets say about UDP.

#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use std::net::{IpAddr, SocketAddr};

use packets::{
    CLIENT, CLIENT6, PORTS, ROUTER, ROUTER6, SERVER, SERVER6, ethernet_v4, ethernet_v6, fragment4, icmp4,
    icmp6, ipv6, tcp4, udp4, udp6,
};
use udpkit_capture::{Checksum, LinkType, Message, Quoted, dissect};

fn message(frame: &[u8]) -> Option<Message<'_>> {
    dissect(LinkType::ETHERNET, frame)
}

fn client() -> SocketAddr {
    (CLIENT, PORTS.0).into()
}

fn server() -> SocketAddr {
    (SERVER, PORTS.1).into()
}

fn client6() -> SocketAddr {
    (CLIENT6, PORTS.0).into()
}

fn server6() -> SocketAddr {
    (SERVER6, PORTS.1).into()
}

fn datagram(length: u16, payload: &[u8]) -> Message<'_> {
    let checksum = if payload.len() == usize::from(length) { Checksum::Fine } else { Checksum::Unknown };
    Message::Datagram { source: client(), destination: server(), length, payload, checksum }
}

fn datagram6(length: u16, payload: &[u8]) -> Message<'_> {
    let checksum = if payload.len() == usize::from(length) { Checksum::Fine } else { Checksum::Unknown };
    Message::Datagram { source: client6(), destination: server6(), length, payload, checksum }
}

fn error4(icmp_type: u8, code: u8, mtu: Option<u32>, quoted: Option<Quoted>) -> Message<'static> {
    let (sender, receiver) = (IpAddr::from(ROUTER), IpAddr::from(CLIENT));
    Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted }
}

fn error6(icmp_type: u8, code: u8, mtu: Option<u32>, quoted: Option<Quoted>) -> Message<'static> {
    let (sender, receiver) = (IpAddr::from(ROUTER6), IpAddr::from(CLIENT6));
    Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted }
}

fn quoted(length: u16) -> Quoted {
    Quoted { source: client(), destination: server(), length: Some(length) }
}

fn quoted6(length: u16) -> Quoted {
    Quoted { source: client6(), destination: server6(), length: Some(length) }
}

#[test]
fn datagrams() {
    assert_eq!(message(&ethernet_v4(&udp4(b"ping"))), Some(datagram(4, b"ping")));
    assert_eq!(message(&ethernet_v4(&udp4(b""))), Some(datagram(0, b"")));
    assert_eq!(message(&ethernet_v6(&udp6(b"ping"))), Some(datagram6(4, b"ping")));
}

#[test]
fn ethernet_padding_is_not_payload() {
    let padded = [ethernet_v4(&udp4(b"hi")), vec![0; 16]].concat();
    assert_eq!(message(&padded), Some(datagram(2, b"hi")));
}

#[test]
fn a_record_cut_by_the_snapshot_length() {
    let frame = ethernet_v4(&udp4(b"ping"));
    assert_eq!(message(&frame[..frame.len() - 3]), Some(datagram(4, b"p")));
    assert_eq!(message(&frame[..frame.len() - 4]), Some(datagram(4, b"")));
    assert_eq!(message(&frame[..frame.len() - 5]), None, "the UDP header is cut");
}

#[test]
fn ipv4_options_are_stepped_over() {
    let mut packet = udp4(b"ping");
    packet[0] = 0x46;
    packet[3] += 4;
    packet.splice(20..20, [0x94, 4, 0, 0]);
    assert_eq!(message(&ethernet_v4(&packet)), Some(datagram(4, b"ping")));
}

#[test]
fn ipv6_extension_headers_are_stepped_over() {
    let udp = &udp6(b"ping")[40..];
    let hop_by_hop_and_destination = [&[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0], udp].concat();
    assert_eq!(message(&ethernet_v6(&ipv6(0, &hop_by_hop_and_destination))), Some(datagram6(4, b"ping")));
    assert_eq!(message(&ethernet_v6(&ipv6(0, &hop_by_hop_and_destination[..15]))), None, "cut within them");
}

#[test]
fn only_first_fragments_have_a_header() {
    let udp = &udp4(b"0123456789abcdef")[20..];
    assert_eq!(message(&ethernet_v4(&fragment4(0, true, &udp[..16]))), Some(datagram(16, b"01234567")));
    assert_eq!(message(&ethernet_v4(&fragment4(2, false, &udp[16..]))), None);

    let udp = &udp6(b"0123456789abcdef")[40..];
    let first = [&[17, 0, 0, 1, 0, 0, 0, 9], &udp[..16]].concat();
    let second = [&[17, 0, 0, 16, 0, 0, 0, 9], &udp[16..]].concat();
    assert_eq!(message(&ethernet_v6(&ipv6(44, &first))), Some(datagram6(16, b"01234567")));
    assert_eq!(message(&ethernet_v6(&ipv6(44, &second))), None);
}

#[test]
fn errors_quote_the_datagram() {
    let unreachable = ethernet_v4(&icmp4(3, 3, [0; 4], &udp4(b"ping")));
    assert_eq!(message(&unreachable), Some(error4(3, 3, None, Some(quoted(4)))));
    let unreachable = ethernet_v6(&icmp6(1, 4, [0; 4], &udp6(b"ping")));
    assert_eq!(message(&unreachable), Some(error6(1, 4, None, Some(quoted6(4)))));
}

#[test]
fn every_error_type_and_nothing_else() {
    let is_error = |frame: &[u8]| message(frame).is_some();
    let v4: Vec<u8> = (0..=255)
        .filter(|&icmp_type| is_error(&ethernet_v4(&icmp4(icmp_type, 0, [0; 4], &udp4(b"")))))
        .collect();
    assert_eq!(v4, [3, 11, 12]);
    let v6: Vec<u8> = (0..=255)
        .filter(|&icmp_type| is_error(&ethernet_v6(&icmp6(icmp_type, 0, [0; 4], &udp6(b"")))))
        .collect();
    assert_eq!(v6, [1, 2, 3, 4]);
}

#[test]
fn the_next_hop_mtu() {
    let needed = ethernet_v4(&icmp4(3, 4, [0, 0, 0x05, 0xdc], &udp4(b"ping")));
    assert_eq!(message(&needed), Some(error4(3, 4, Some(1500), Some(quoted(4)))));
    let too_big = ethernet_v6(&icmp6(2, 0, [0, 0, 0x05, 0x00], &udp6(b"ping")));
    assert_eq!(message(&too_big), Some(error6(2, 0, Some(1280), Some(quoted6(4)))));
}

#[test]
fn a_short_quote_gives_what_it_holds() {
    let quote = |length: usize| ethernet_v4(&icmp4(3, 3, [0; 4], &udp4(b"a long question")[..length]));
    assert_eq!(
        message(&quote(28)),
        Some(error4(3, 3, None, Some(quoted(15)))),
        "8 bytes, what RFC 792 asks for"
    );
    let ports_only = Quoted { length: None, ..quoted(15) };
    assert_eq!(message(&quote(24)), Some(error4(3, 3, None, Some(ports_only))));
    assert_eq!(message(&quote(23)), Some(error4(3, 3, None, None)));
    assert_eq!(message(&quote(0)), Some(error4(3, 3, None, None)));
}

#[test]
fn an_error_cut_by_the_snapshot_length() {
    let frame = ethernet_v6(&icmp6(1, 4, [0; 4], &udp6(b"ping")));
    assert_eq!(message(&frame[..14 + 40 + 8 + 40 + 8]), Some(error6(1, 4, None, Some(quoted6(4)))));
    assert_eq!(message(&frame[..14 + 40 + 8 + 39]), Some(error6(1, 4, None, None)));
    assert_eq!(message(&frame[..14 + 40 + 7]), None, "the ICMP header is cut");
}

#[test]
fn errors_about_fragments() {
    let udp = &udp4(b"0123456789abcdef")[20..];
    let first = ethernet_v4(&icmp4(11, 1, [0; 4], &fragment4(0, true, &udp[..16])));
    assert_eq!(message(&first), Some(error4(11, 1, None, Some(quoted(16)))));
    let second = ethernet_v4(&icmp4(11, 1, [0; 4], &fragment4(2, false, &udp[16..])));
    assert_eq!(message(&second), Some(error4(11, 1, None, None)));
}

#[test]
fn errors_about_something_else_are_skipped() {
    assert_eq!(message(&ethernet_v4(&icmp4(3, 3, [0; 4], &tcp4()))), None);
    assert_eq!(message(&ethernet_v4(&icmp4(3, 3, [0; 4], &udp6(b"ping")))), None, "not even IPv4");
    assert_eq!(message(&ethernet_v6(&icmp6(1, 4, [0; 4], &udp4(b"ping").repeat(2)))), None, "not even IPv6");
}

#[test]
fn an_icmp_of_the_other_version_is_none() {
    let mut crossed = icmp4(3, 3, [0; 4], &udp4(b"ping"));
    crossed[9] = 58;
    assert_eq!(message(&ethernet_v4(&crossed)), None);
}

#[test]
fn what_says_nothing_about_udp_is_skipped() {
    assert_eq!(message(&ethernet_v4(&tcp4())), None);
    assert_eq!(message(&ethernet_v4(&udp6(b"ping"))), None, "IPv6 behind the EtherType of IPv4");
    assert_eq!(dissect(LinkType(113), &ethernet_v4(&udp4(b"ping"))), None, "a link type not known yet");
    assert_eq!(message(b""), None);
}

/// UDP over Ethernet, to the port of VXLAN.
fn vxlan(frame: &[u8]) -> Vec<u8> {
    let mut packet = udp4(&[&[8, 0, 0, 0, 0, 0, 7, 0], frame].concat());
    packet[22..24].copy_from_slice(&4789_u16.to_be_bytes());
    packet[26..28].copy_from_slice(&[0, 0]);
    packet
}

/// An IPv4 packet of that protocol.
fn ip4(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = udp4(payload);
    packet.drain(20..28);
    packet[9] = number;
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

#[test]
fn the_innermost_datagram_speaks() {
    let (inner, inner6) = (udp4(b"ping"), udp6(b"ping"));
    let gre = |header: &[u8], packet: &[u8]| ip4(47, &[header, packet].concat());
    for packet in [
        ip4(4, &inner),
        ip4(4, &ip4(4, &inner)),
        gre(&[0, 0, 8, 0], &inner),
        gre(&[0xb0, 0, 8, 0, 1, 1, 0, 0, 2, 2, 2, 2, 3, 3, 3, 3], &inner),
        gre(&[0, 0, 0x65, 0x58], &ethernet_v4(&inner)),
        gre(&[0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0x21], &inner),
        vxlan(&ethernet_v4(&inner)),
        vxlan(&ethernet_v4(&vxlan(&ethernet_v4(&inner)))),
    ] {
        assert_eq!(message(&ethernet_v4(&packet)), Some(datagram(4, b"ping")), "{packet:02x?}");
    }
    assert_eq!(message(&ethernet_v6(&ipv6(4, &inner))), Some(datagram(4, b"ping")));
    for packet in [ipv6(41, &inner6), ipv6(47, &[&[0, 0, 0x86, 0xdd], &inner6[..]].concat())] {
        assert_eq!(message(&ethernet_v6(&packet)), Some(datagram6(4, b"ping")));
    }
    assert_eq!(message(&ethernet_v4(&ip4(41, &inner6))), Some(datagram6(4, b"ping")));
    let refused = icmp4(3, 3, [0; 4], &inner);
    assert_eq!(
        message(&ethernet_v4(&vxlan(&ethernet_v4(&refused)))),
        Some(error4(3, 3, None, Some(quoted(4)))),
        "an error in a tunnel"
    );
}

#[test]
fn a_tunnel_of_something_else_is_a_datagram() {
    let port = |frame: &[u8]| match message(&ethernet_v4(&vxlan(frame))) {
        Some(Message::Datagram { destination, .. }) => destination.port(),
        other => panic!("{other:?}"),
    };
    assert_eq!(port(&ethernet_v4(&tcp4())), 4789);
    assert_eq!(port(b"no frame"), 4789);
    assert_eq!(message(&ethernet_v4(&ip4(4, &tcp4()))), None);
}

#[test]
fn tunnels_in_each_other_end() {
    let mut packet = udp4(b"ping");
    for _ in 0..7 {
        packet = ip4(4, &packet);
    }
    assert_eq!(message(&ethernet_v4(&packet)), Some(datagram(4, b"ping")));
    assert_eq!(message(&ethernet_v4(&ip4(4, &packet))), None);
}

#[test]
fn a_wrong_checksum_is_told_where_it_can_be_known() {
    let checksum = |packet: &[u8]| match message(packet) {
        Some(Message::Datagram { checksum, .. }) => checksum,
        other => panic!("{other:?}"),
    };
    let mut packet = udp4(b"ping");
    packet[26] ^= 1;
    assert_eq!(checksum(&ethernet_v4(&packet)), Checksum::Wrong);
    assert_eq!(checksum(&ethernet_v4(&packet)[..45]), Checksum::Unknown, "cut");
    packet[0] = 0x46;
    packet[3] += 4;
    packet.splice(20..20, [0x83, 4, 4, 0]);
    assert_eq!(checksum(&ethernet_v4(&packet)), Checksum::Unknown, "a source route");
    let mut packet = udp6(b"ping");
    packet[46] ^= 1;
    assert_eq!(checksum(&ethernet_v6(&packet)), Checksum::Wrong);
    packet[46..48].copy_from_slice(&[0, 0]);
    assert_eq!(checksum(&ethernet_v6(&packet)), Checksum::Fine, "left out");
}
