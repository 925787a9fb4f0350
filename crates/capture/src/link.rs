//! Link layers: from the captured bytes to the IP packet in them.

use crate::ip::IpVersion;

/// What kind of link a packet was captured on, and so which header it starts with: a `LINKTYPE_` number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// IEEE 802.3 Ethernet, `LINKTYPE_ETHERNET`.
    pub const ETHERNET: Self = Self(1);
    /// An IP packet with nothing before it, `LINKTYPE_RAW`.
    pub const RAW_IP: Self = Self(101);
}

/// Why there is no IP packet to look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPacket {
    /// It carries something else.
    Other,
    /// It could not be decoded.
    Unread(&'static str),
    /// Nothing is known of this kind of link.
    UnknownLink(u16),
}

/// An IP packet with its header in front.
pub(crate) type Network<'a> = Result<(IpVersion, &'a [u8]), NoPacket>;

/// What is behind one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind<'a> {
    Ip(IpVersion, &'a [u8]),
    /// Another header, of this `EtherType`.
    Typed(u16, &'a [u8]),
}

pub(crate) type Step<'a> = Result<Behind<'a>, NoPacket>;

/// Goes on to the IP packet. Headers within headers cost no stack: a record has room for thousands.
pub(crate) fn network(mut step: Step<'_>) -> Network<'_> {
    loop {
        match step? {
            Behind::Ip(version, packet) => return Ok((version, packet)),
            Behind::Typed(number, data) => step = ether_type(number, data),
        }
    }
}

const CUT: NoPacket = NoPacket::Unread("cut within a link-layer header");

/// The IP packet behind the link-layer header. The numbers are those of
/// <https://www.tcpdump.org/linktypes.html>.
pub(crate) fn strip(link_type: LinkType, data: &[u8]) -> Network<'_> {
    network(header(link_type, data))
}

fn header(link_type: LinkType, data: &[u8]) -> Step<'_> {
    match link_type.0 {
        1 => ethernet(data),
        // BSD loopback, OpenBSD loopback, OpenBSD enc(4).
        0 | 108 => address_family(data, 4),
        109 => address_family(data, 12),
        // PPP; in HDLC-like framing; over Ethernet; with a byte of direction; NetBSD's, with a byte in its place.
        9 | 50 => ppp(data),
        51 => pppoe(data),
        166 | 204 => ppp(behind(data, 1)?),
        // Cisco HDLC.
        104 => typed(behind(data, 2)?),
        // Raw IP; two numbers are those of other systems' DLT_RAW.
        12 | 14 | 101 => raw(data),
        228 => Ok(Behind::Ip(IpVersion::V4, data)),
        229 => Ok(Behind::Ip(IpVersion::V6, data)),
        // IEEE 802.2 after the header of: token ring (without source routes), FDDI, ATM and IP over Fibre Channel.
        6 => llc(behind(data, 14)?),
        10 => llc(behind(data, 13)?),
        100 => llc(data),
        122 => llc(behind(data, 16)?),
        105 => wireless(data),
        127 => radiotap(data),
        192 => per_packet_information(data),
        // Linux cooked, and its second version.
        113 => typed(behind(data, 14)?),
        276 => {
            let (number, rest) = behind(data, 0)?.split_first_chunk::<2>().ok_or(CUT)?;
            Ok(Behind::Typed(u16::from_be_bytes(*number), behind(rest, 18)?))
        }
        // IP over IEEE 1394.
        138 => typed(behind(data, 16)?),
        239 => nflog(behind(data, 4)?),
        number => Err(NoPacket::UnknownLink(number)),
    }
}

fn behind(data: &[u8], length: usize) -> Result<&[u8], NoPacket> {
    data.get(length..).ok_or(CUT)
}

pub(crate) fn ethernet(data: &[u8]) -> Step<'_> {
    typed(behind(data, 12)?)
}

/// Reads the `EtherType` in front.
fn typed(data: &[u8]) -> Step<'_> {
    let (number, rest) = data.split_first_chunk::<2>().ok_or(CUT)?;
    Ok(Behind::Typed(u16::from_be_bytes(*number), rest))
}

/// What is behind an `EtherType`.
fn ether_type(number: u16, data: &[u8]) -> Step<'_> {
    match number {
        0x0800 => Ok(Behind::Ip(IpVersion::V4, data)),
        0x86dd => Ok(Behind::Ip(IpVersion::V6, data)),
        // 802.1Q, 802.1ad, and what came before 802.1ad: two bytes of tag, then the next EtherType.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => typed(behind(data, 2)?),
        // MACsec without encryption: a header with or without the channel, then the next EtherType.
        0x88e5 => match *data {
            [flags, ..] if flags & 0x0c == 0 => typed(behind(data, if flags & 0x20 == 0 { 6 } else { 14 })?),
            _ => Err(NoPacket::Unread("encrypted MACsec frames")),
        },
        0x8847 | 0x8848 => mpls(data),
        0x894f => nsh(data),
        0x8864 => pppoe(data),
        // Transparent Ethernet bridging: in GRE.
        0x6558 => ethernet(data),
        // PPP in GRE.
        0x880b => ppp(data),
        // The length of an 802.3 frame; in Linux cooked captures, 1 and 4 say the same.
        ..=1500 => llc(data),
        _ => Err(NoPacket::Other),
    }
}

/// IEEE 802.2: IP itself, or behind SNAP.
fn llc(data: &[u8]) -> Step<'_> {
    match *data {
        [0xaa, 0xaa, 3, 0, 0, 0 | 0xf8, high, low, ..] => {
            match u16::from_be_bytes([high, low]) {
                // Not a length here.
                ..=1500 => Err(NoPacket::Other),
                number => Ok(Behind::Typed(number, &data[8..])),
            }
        }
        [6, 6, 3, ..] => Ok(Behind::Ip(IpVersion::V4, &data[3..])),
        _ => Err(NoPacket::Other),
    }
}

/// RFC 3032. What a label stands for is agreed elsewhere: IP is recognised by its version, as routers do to
/// balance load.
pub(crate) fn mpls(mut data: &[u8]) -> Step<'_> {
    loop {
        let (label, rest) = data.split_first_chunk::<4>().ok_or(CUT)?;
        data = rest;
        if label[2] & 1 != 0 {
            break;
        }
    }
    match data.first().ok_or(CUT)? >> 4 {
        // A control word, and then most often Ethernet (RFC 4448).
        0 => ethernet(behind(data, 4)?),
        _ => raw(data),
    }
}

/// RFC 8300.
fn nsh(data: &[u8]) -> Step<'_> {
    let [_, length, _, next, ..] = *data else { return Err(CUT) };
    let rest = behind(data, usize::from(length & 0x3f) * 4)?;
    match next {
        1 => Ok(Behind::Ip(IpVersion::V4, rest)),
        2 => Ok(Behind::Ip(IpVersion::V6, rest)),
        3 => ethernet(rest),
        _ => Err(NoPacket::Other),
    }
}

/// RFC 2516.
fn pppoe(data: &[u8]) -> Step<'_> {
    match *data {
        [0x11, 0, _, _, _, _, ..] => ppp(&data[6..]),
        _ => Err(NoPacket::Other),
    }
}

/// RFC 1661 and RFC 1662, with address and protocol compressed or not.
fn ppp(mut data: &[u8]) -> Step<'_> {
    if let [0xff, 3, rest @ ..] = data {
        data = rest;
    }
    let (protocol, rest) = match *data {
        [odd, ref rest @ ..] if odd & 1 != 0 => (u16::from(odd), rest),
        [high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
        _ => return Err(CUT),
    };
    match protocol {
        0x21 => Ok(Behind::Ip(IpVersion::V4, rest)),
        0x57 => Ok(Behind::Ip(IpVersion::V6, rest)),
        0x281 | 0x283 => mpls(rest),
        _ => Err(NoPacket::Other),
    }
}

pub(crate) fn raw(data: &[u8]) -> Step<'_> {
    match data.first().ok_or(CUT)? >> 4 {
        4 => Ok(Behind::Ip(IpVersion::V4, data)),
        6 => Ok(Behind::Ip(IpVersion::V6, data)),
        _ => Err(NoPacket::Other),
    }
}

/// An address family in the byte order of the host that captured, which may be another than the file's, in a
/// header of that length.
fn address_family(data: &[u8], length: usize) -> Step<'_> {
    let packet = behind(data, length)?;
    match data[..4] {
        [2, 0, 0, 0] | [0, 0, 0, 2] => Ok(Behind::Ip(IpVersion::V4, packet)),
        // Linux; NetBSD and OpenBSD; FreeBSD; macOS.
        [10 | 24 | 28 | 30, 0, 0, 0] | [0, 0, 0, 10 | 24 | 28 | 30] => Ok(Behind::Ip(IpVersion::V6, packet)),
        _ => Err(NoPacket::Other),
    }
}

/// Netfilter's log: attributes, one of which is the packet. In the byte order of the host that captured.
fn nflog(mut data: &[u8]) -> Step<'_> {
    loop {
        let [a, b, c, d, ..] = *data else { return Err(CUT) };
        let (length, kind) = match (u16::from_le_bytes([a, b]), [c, d]) {
            (length @ 4..=0xff, [kind, 0]) | (length, [kind @ 9, 0]) => (length, kind),
            (_, [0, kind]) => (u16::from_be_bytes([a, b]), kind),
            _ => return Err(NoPacket::Other),
        };
        if kind == 9 {
            return raw(&data[4..]);
        }
        data = data.get(usize::from(length.max(4)).next_multiple_of(4)..).ok_or(CUT)?;
    }
}

fn radiotap(data: &[u8]) -> Step<'_> {
    let [_, _, low, high, ..] = *data else { return Err(CUT) };
    wireless(behind(data, usize::from(u16::from_le_bytes([low, high])))?)
}

fn per_packet_information(data: &[u8]) -> Step<'_> {
    let [_, _, low, high, a, b, 0, 0, ..] = *data else { return Err(NoPacket::Other) };
    let rest = behind(data, usize::from(u16::from_le_bytes([low, high])))?;
    match u16::from_le_bytes([a, b]) {
        105 => wireless(rest),
        1 => ethernet(rest),
        other => Err(NoPacket::UnknownLink(other)),
    }
}

/// IEEE 802.11: what is in data frames that can be read.
fn wireless(data: &[u8]) -> Step<'_> {
    let [control, flags, ..] = *data else { return Err(CUT) };
    // Version 0, type data, with data in it.
    if control & 0x0f != 0x08 || control & 0x40 != 0 {
        return Err(NoPacket::Other);
    }
    if flags & 0x40 != 0 {
        return Err(NoPacket::Unread("encrypted IEEE 802.11 frames"));
    }
    // Four addresses between access points.
    let mut length = if flags & 3 == 3 { 30 } else { 24 };
    if control & 0x80 != 0 {
        let qos = *data.get(length).ok_or(CUT)?;
        if qos & 0x80 != 0 {
            return Err(NoPacket::Unread("aggregated IEEE 802.11 frames"));
        }
        length += if flags & 0x80 != 0 { 6 } else { 2 };
    }
    let body = behind(data, length)?;
    match *body {
        // Some drivers fill up the header to a multiple of four bytes.
        [_, _, 0xaa, 0xaa, 3, ..] if length % 4 == 2 => llc(&body[2..]),
        _ => llc(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: [u8; 2] = [0x45, 7];
    const V4: Network<'static> = Ok((IpVersion::V4, &PACKET));
    const V6: Network<'static> = Ok((IpVersion::V6, &[0x60, 7]));

    /// What is behind the header in hexadecimal, with an IPv4 or an IPv6 packet behind it.
    fn behind_header(link_type: u16, header: &str) -> [bool; 2] {
        let digits: Vec<u8> = header.bytes().filter(|byte| *byte != b' ').collect();
        let header: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        for cut in 0..header.len() {
            assert!(strip(LinkType(link_type), &header[..cut]).is_err(), "{link_type}, cut at {cut}");
        }
        let packet = |first: u8| [&header[..], &[first, 7]].concat();
        [strip(LinkType(link_type), &packet(0x45)) == V4, strip(LinkType(link_type), &packet(0x60)) == V6]
    }

    const MACS: &str = "020202020202 020202020202";

    #[test]
    fn headers() {
        let frame = |rest: &str| format!("{MACS} {rest}");
        let radio = |frame: &str| format!("0000 0900 00000000 00 {frame}");
        let (ip4, ip6, either) = ([true, false], [false, true], [true, true]);
        for (link_type, header, expected) in [
            (1, frame("0800"), ip4),
            (1, frame("86dd"), ip6),
            (1, frame("88a8 0001 8100 0002 0800"), ip4),
            (1, frame("9100 0001 86dd"), ip6),
            (1, frame("0010 aaaa03 000000 0800"), ip4),
            (1, frame("0010 060603"), ip4),
            (1, frame("8847 00010000 000101ff"), either),
            (1, frame("8847 000101ff 00000000 020202020202 020202020202 0800"), ip4),
            (1, frame("8864 1100 0001 0004 0021"), ip4),
            (1, frame("88e5 0000 00000001 0800"), ip4),
            (1, frame("88e5 2000 00000001 0202020202020001 86dd"), ip6),
            (1, frame("894f 0fc6 0101 00000100 00000000 00000000 00000000 00000000"), ip4),
            (1, frame("8864 1100 0001 0004 0057"), ip6),
            (0, "02000000".into(), ip4),
            (0, "00000002".into(), ip4),
            (0, "1e000000".into(), ip6),
            (108, "00000018".into(), ip6),
            (109, "02000000 00000000 00000000".into(), ip4),
            (9, "ff03 0021".into(), ip4),
            (9, "21".into(), ip4),
            (50, "ff03 0057".into(), ip6),
            (204, "00 ff03 0021".into(), ip4),
            (104, "0f00 0800".into(), ip4),
            (12, String::new(), either),
            (14, String::new(), either),
            (101, String::new(), either),
            (113, "0000 0001 0006 0202020202020000 86dd".into(), ip6),
            (113, "0000 0001 0006 0202020202020000 8100 0001 0800".into(), ip4),
            (276, "0800 0000 00000002 0001 00 06 0202020202020000".into(), ip4),
            (105, format!("0800 0000 {MACS} 020202020202 0000 aaaa03 000000 0800"), ip4),
            (105, format!("8803 0000 {MACS} {MACS} 0000 0000 aaaa03 000000 86dd"), ip6),
            (127, radio(&format!("8800 0000 {MACS} 020202020202 0000 0000 0000 aaaa03 000000 0800")), ip4),
            (239, "02000000 08000100 00000000 06000400 61620000 0a000900".into(), either),
            (239, "02000000 00080001 00000000 000a0009".into(), either),
            (192, format!("0000 0800 69000000 0800 0000 {MACS} 020202020202 0000 aaaa03 000000 0800"), ip4),
        ] {
            assert_eq!(behind_header(link_type, &header), expected, "{link_type}: {header}");
        }
        assert_eq!(strip(LinkType(228), &PACKET), V4);
        assert_eq!(strip(LinkType(229), &PACKET), Ok((IpVersion::V6, &PACKET[..])));
    }

    #[test]
    fn nothing_but_tags_ends() {
        let tags = [&[0; 12][..], &[0x81, 0].repeat(1000)].concat();
        assert_eq!(strip(LinkType::ETHERNET, &tags), Err(CUT));
        assert_eq!(mpls(&[0; 1000]), Err(CUT));
    }

    /// Headers within headers as far as a record is long, in a test's small stack.
    #[test]
    fn headers_within_headers_take_no_stack() {
        let ethernet = [0; 12];
        let macsec = [0x88, 0xe5, 0, 0, 0, 0, 0, 1];
        let bridged = [&[0x65, 0x58][..], &ethernet].concat();
        let label = [&[0x88, 0x47, 0, 0, 1, 1, 0, 0, 0, 0][..], &ethernet].concat();
        let snap = [0, 100, 0xaa, 0xaa, 3, 0, 0, 0];
        for (first, header) in [(&b""[..], &macsec[..]), (b"", &bridged), (b"", &label), (&snap, &label)] {
            let data = [&ethernet, first, &header.repeat(262_144 / header.len())].concat();
            assert_eq!(strip(LinkType::ETHERNET, &data), Err(CUT));
        }
    }

    #[test]
    fn what_is_not_ip_is_not_guessed() {
        for (link_type, header, expected) in [
            (1, format!("{MACS} 0806"), NoPacket::Other),
            (1, format!("{MACS} 0040 424203"), NoPacket::Other),
            (1, format!("{MACS} 8863 1109 0000 0000"), NoPacket::Other),
            (50, "ff03 c021".into(), NoPacket::Other),
            (0, "07000000".into(), NoPacket::Other),
            (105, "8000 0000".into(), NoPacket::Other),
            (105, "0840 0000".into(), NoPacket::Unread("encrypted IEEE 802.11 frames")),
            (147, String::new(), NoPacket::UnknownLink(147)),
        ] {
            assert_eq!(behind_header(link_type, &header), [false; 2], "{header}");
            let digits: Vec<u8> = header.bytes().filter(|byte| *byte != b' ').collect();
            let header: Vec<u8> = digits
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            assert_eq!(
                strip(LinkType(link_type), &[&header[..], &[0x45]].concat()),
                Err(expected),
                "{header:?}"
            );
        }
    }
}
