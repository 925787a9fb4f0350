//! Builds the packets and files that the tests read.

use std::io::Read;

use udpkit_capture::{Input, Message, NotACapture, Tally, open_capture};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};

pub const CLIENT: [u8; 4] = [172, 17, 0, 3];
pub const SERVER: [u8; 4] = [172, 16, 13, 13];
pub const ROUTER: [u8; 4] = [172, 17, 0, 1];
pub const CLIENT6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
pub const SERVER6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13];
pub const ROUTER6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const PORTS: (u16, u16) = (38908, 56789);

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

pub fn ethernet_v4(packet: &[u8]) -> Vec<u8> {
    ethernet(IPV4, packet)
}

pub fn ethernet_v6(packet: &[u8]) -> Vec<u8> {
    ethernet(IPV6, packet)
}

pub fn ethernet(ether_type: u16, packet: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ether_type.to_be_bytes(), packet].concat()
}

pub fn udp4(payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(CLIENT, SERVER, 64).udp(PORTS.0, PORTS.1).write(&mut packet, payload).unwrap();
    packet
}

pub fn udp6(payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(CLIENT6, SERVER6, 64).udp(PORTS.0, PORTS.1).write(&mut packet, payload).unwrap();
    packet
}

pub fn tcp4() -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(CLIENT, SERVER, 64).tcp(PORTS.0, PORTS.1, 0, 1024).write(&mut packet, &[]).unwrap();
    packet
}

pub fn icmp4(icmp_type: u8, code: u8, rest: [u8; 4], quote: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(ROUTER, CLIENT, 64)
        .icmpv4_raw(icmp_type, code, rest)
        .write(&mut packet, quote)
        .unwrap();
    packet
}

pub fn icmp6(icmp_type: u8, code: u8, rest: [u8; 4], quote: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(ROUTER6, CLIENT6, 64)
        .icmpv6_raw(icmp_type, code, rest)
        .write(&mut packet, quote)
        .unwrap();
    packet
}

/// A fragment of an IPv4 packet with UDP in it; the offset is in units of 8 bytes.
pub fn fragment4(offset: u16, more: bool, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let mut header = Ipv4Header::new(length, 64, IpNumber::UDP, CLIENT, SERVER).unwrap();
    header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
    header.more_fragments = more;
    [&header.to_bytes()[..], data].concat()
}

/// An IPv6 packet whose payload starts with the extension header (or else protocol) of that number.
pub fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0], &length[..], &[next_header, 64], &CLIENT6, &SERVER6, payload].concat()
}

/// Every kind of packet that there is a rule for, on Ethernet.
pub fn every_kind() -> Vec<Vec<u8>> {
    let tagged = [&[2; 12][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x08, 0], &udp4(b"tagged")].concat();
    let in_fragments = &udp4(b"in two fragments")[20..];
    let extended = [&[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0], &udp6(b"extended")[40..]].concat();
    vec![
        ethernet_v4(&udp4(b"ping")),
        ethernet_v6(&udp6(b"ping")),
        ethernet_v4(&udp4(b"")),
        tagged,
        ethernet_v6(&ipv6(0, &extended)),
        ethernet_v4(&tcp4()),
        ethernet_v4(&fragment4(0, true, &in_fragments[..16])),
        ethernet_v4(&fragment4(2, false, &in_fragments[16..])),
        ethernet_v4(&icmp4(3, 3, [0; 4], &udp4(b"ping"))),
        ethernet_v4(&icmp4(3, 4, [0, 0, 5, 0xdc], &udp4(b"ping")[..28])),
        ethernet_v4(&icmp4(11, 0, [0; 4], &tcp4())),
        ethernet_v4(&icmp4(8, 0, [0; 4], b"echo")),
        ethernet_v6(&icmp6(1, 4, [0; 4], &udp6(b"ping"))),
        ethernet_v6(&icmp6(2, 0, [0, 0, 5, 0], &udp6(b"ping"))),
    ]
}

/// What a capture said: number, time and words of each message.
pub type Said = (u64, Option<u64>, String);

/// Reads a capture to its end.
pub fn read(source: impl Read + Send + 'static) -> Result<(Vec<Said>, Tally), NotACapture> {
    let mut capture = open_capture(Input::new(Box::new(source)).unwrap())?;
    let mut messages = Vec::new();
    while let Some(said) = capture.next_message() {
        if let Message::Datagram { length, payload, .. } = said.message {
            assert!(payload.len() <= usize::from(length), "more payload than the header has");
        }
        messages.push((said.number, said.time_ns, format!("{:?}", said.message)));
    }
    assert!(capture.next_message().is_none(), "the end stays the end");
    let tally = capture.tally().clone();
    assert!(tally.datagrams + tally.icmp_errors <= tally.packets);
    assert!(tally.damage.len() <= Tally::PLACES && tally.unread.len() <= Tally::REASONS);
    Ok((messages, tally))
}

/// Reads bytes in memory.
pub fn read_bytes(bytes: &[u8]) -> Result<(Vec<Said>, Tally), NotACapture> {
    read(std::io::Cursor::new(bytes.to_vec()))
}

/// A stream that comes in pieces of so many bytes.
pub struct Pieces(pub Vec<u8>, pub usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.1).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0.drain(..length);
        Ok(length)
    }
}

/// A pcapng file in the making.
#[derive(Clone)]
pub struct Ng {
    pub big_endian: bool,
    pub bytes: Vec<u8>,
}

impl Ng {
    pub fn new(big_endian: bool) -> Self {
        let mut file = Self { big_endian, bytes: Vec::new() };
        file.section(big_endian);
        file
    }

    pub fn u16(&self, value: u16) -> [u8; 2] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub fn u32(&self, value: u32) -> [u8; 4] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let length = self.u32(u32::try_from(padded + 12).unwrap());
        let parts = [&self.u32(kind), &length, body, &[0; 4][..padded - body.len()], &length].concat();
        self.bytes.extend(parts);
        self
    }

    pub fn section(&mut self, big_endian: bool) -> &mut Self {
        self.big_endian = big_endian;
        let version = [self.u16(1), self.u16(0)].concat();
        let body = [&self.u32(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    pub fn interface(&mut self, link_type: u16, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = [&self.u16(link_type)[..], &[0; 2], &self.u32(262_144)].concat();
        for (code, value) in options {
            let length = self.u16(u16::try_from(value.len()).unwrap());
            body.extend([&self.u16(*code)[..], &length, value].concat());
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    /// An enhanced packet block with a comment.
    pub fn packet(&mut self, interface: u32, ticks: u64, packet: &[u8]) -> &mut Self {
        let length = self.u32(u32::try_from(packet.len()).unwrap());
        let [high, low] =
            [ticks >> 32, ticks & 0xffff_ffff].map(|half| self.u32(u32::try_from(half).unwrap()));
        let mut body = [&self.u32(interface)[..], &high, &low, &length, &length, packet].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let comment = [&self.u16(1)[..], &self.u16(2), b"hi", &[0; 2], &[0; 4]].concat();
        self.block(6, &[body, comment].concat())
    }
}

/// How a file is written.
#[derive(Clone, Copy)]
pub struct Format {
    pub big_endian: bool,
    pub nanoseconds: bool,
}

pub const FORMATS: [Format; 4] = [
    Format { big_endian: false, nanoseconds: false },
    Format { big_endian: false, nanoseconds: true },
    Format { big_endian: true, nanoseconds: false },
    Format { big_endian: true, nanoseconds: true },
];

impl Format {
    fn u32(self, value: u32) -> [u8; 4] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u16(self, value: u16) -> [u8; 2] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub fn header(self, snapshot_length: u32, link_type: u32) -> Vec<u8> {
        let magic = if self.nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        [
            &self.u32(magic)[..],
            &self.u16(2),
            &self.u16(4),
            &[0; 8],
            &self.u32(snapshot_length),
            &self.u32(link_type),
        ]
        .concat()
    }

    pub fn record(self, seconds: u32, fraction: u32, data: &[u8]) -> Vec<u8> {
        let length = self.u32(u32::try_from(data.len()).unwrap());
        [&self.u32(seconds)[..], &self.u32(fraction), &length, &length, data].concat()
    }

    pub fn file(self, packets: &[Vec<u8>]) -> Vec<u8> {
        let mut file = self.header(262_144, 1);
        for (second, packet) in (1_700_000_000..).zip(packets) {
            file.extend(self.record(second, 123_456, packet));
        }
        file
    }
}
