//! IP headers.
//!
//! Read here and not by etherparse, whose lax slices are made for cut packets: with unsafe code inside, its
//! walk along IPv6 extension headers (0.21) reads past the end of a packet that was cut between two of them.
//! What we need of the headers is short.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol numbers, which are next-header numbers in IPv6.
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP_OPTIONS: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IPV4: u8 = 4;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const ETHERNET: u8 = 97;
    pub(crate) const PIM: u8 = 103;
    pub(crate) const MOBILITY: u8 = 135;
    pub(crate) const MPLS: u8 = 137;
    pub(crate) const HOST_IDENTITY: u8 = 139;
    pub(crate) const SHIM6: u8 = 140;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    pub(crate) const fn icmp(self) -> u8 {
        match self {
            Self::V4 => protocol::ICMP,
            Self::V6 => protocol::ICMPV6,
        }
    }
}

/// An IP packet with its options and extension headers taken off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpPacket<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// `None`: it is whole.
    pub(crate) fragment: Option<Fragment>,
    /// As much as the header claims and the bytes hold. Link-layer padding is gone.
    pub(crate) payload: &'a [u8],
    /// Bytes of payload that the header claims.
    pub(crate) length: usize,
    /// Options may hold other addresses than those with which the UDP checksum was made.
    pub(crate) rewritten: bool,
}

/// Which part of a packet a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    /// In bytes.
    pub(crate) offset: u32,
    pub(crate) more: bool,
}

impl Fragment {
    /// `None`: not a part but all of it.
    fn new(id: u32, offset: u16, more: bool) -> Option<Self> {
        (offset != 0 || more).then_some(Self { id, offset: u32::from(offset) * 8, more })
    }
}

impl IpPacket<'_> {
    pub(crate) fn version(&self) -> IpVersion {
        if self.source.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }
    }

    /// The payload starts at its beginning: this is a whole packet or the first fragment of one.
    pub(crate) fn starts_here(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }

    /// Steps over the extension headers behind a fragment header: those of the whole packet.
    pub(crate) fn upper(self) -> Result<Self, Undecodable> {
        match self.version() {
            IpVersion::V4 => Ok(self),
            IpVersion::V6 => skip_extension_headers(self),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// The bytes end within the headers.
    Cut,
    /// Not a header of this IP version.
    Malformed,
}

/// Decodes a packet of the given version. The packet may be cut anywhere behind its headers: ICMP errors
/// quote only the start of a packet, and a snapshot length cuts too.
pub(crate) fn decode(version: IpVersion, data: &[u8]) -> Result<IpPacket<'_>, Undecodable> {
    let first = data.first().ok_or(Undecodable::Cut)?;
    match (version, first >> 4) {
        (IpVersion::V4, 4) => decode_v4(data),
        (IpVersion::V6, 6) => decode_v6(data),
        _ => Err(Undecodable::Malformed),
    }
}

/// RFC 791, section 3.1.
fn decode_v4(data: &[u8]) -> Result<IpPacket<'_>, Undecodable> {
    let header = data.first_chunk::<20>().ok_or(Undecodable::Cut)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header_length < header.len() {
        return Err(Undecodable::Malformed);
    }
    let payload = data.get(header_length..).ok_or(Undecodable::Cut)?;
    let fragmentation = u16::from_be_bytes([header[6], header[7]]);
    let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let length = match usize::from(u16::from_be_bytes([header[2], header[3]])).checked_sub(header_length) {
        Some(length) => length,
        // Not filled in yet when it was captured, or mangled by the host that quotes it.
        None => payload.len(),
    };
    let packet = IpPacket {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol: header[9],
        fragment: Fragment::new(id, fragmentation & 0x1fff, fragmentation & 0x2000 != 0),
        payload: up_to(payload, length),
        length,
        // Among the options may be a source route: its last address is the destination.
        rewritten: header_length > header.len(),
    };
    if packet.protocol == protocol::AUTHENTICATION && packet.fragment.is_none() {
        skip_extension_headers(packet)
    } else {
        Ok(packet)
    }
}

/// RFC 8200, section 3.
fn decode_v6(data: &[u8]) -> Result<IpPacket<'_>, Undecodable> {
    let (header, payload) = data.split_first_chunk::<40>().ok_or(Undecodable::Cut)?;
    let (_, addresses) = header.split_first_chunk::<8>().ok_or(Undecodable::Cut)?;
    let (source, destination) = addresses.split_first_chunk::<16>().ok_or(Undecodable::Cut)?;
    let destination = destination.first_chunk::<16>().ok_or(Undecodable::Cut)?;
    let length = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        // A jumbogram, or not filled in yet when it was captured.
        0 => payload.len(),
        length => length,
    };
    skip_extension_headers(IpPacket {
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(*destination).into(),
        protocol: header[6],
        fragment: None,
        payload: up_to(payload, length),
        length,
        rewritten: false,
    })
}

/// Steps over IPv6 extension headers (RFC 8200, section 4) up to the header of a fragment.
fn skip_extension_headers(mut packet: IpPacket<'_>) -> Result<IpPacket<'_>, Undecodable> {
    loop {
        // The second byte counts units beyond the first eight bytes, and so every turn steps on.
        let units = packet.payload.get(1).copied().map(usize::from);
        let length = match packet.protocol {
            protocol::HOP_BY_HOP_OPTIONS
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HOST_IDENTITY
            | protocol::SHIM6 => 8 + units.ok_or(Undecodable::Cut)? * 8,
            protocol::AUTHENTICATION => 8 + units.ok_or(Undecodable::Cut)? * 4,
            protocol::FRAGMENT => 8,
            _ => return Ok(packet),
        };
        let (header, rest) = packet.payload.split_at_checked(length).ok_or(Undecodable::Cut)?;
        let &[following, _, high, low, a, b, c, d, ..] = header else { return Err(Undecodable::Cut) };
        // A home address or a segment list.
        packet.rewritten |= matches!(packet.protocol, protocol::ROUTING | protocol::DESTINATION_OPTIONS);
        let is_fragment = packet.protocol == protocol::FRAGMENT;
        packet.protocol = following;
        packet.payload = rest;
        packet.length = packet.length.saturating_sub(length);
        if is_fragment {
            let part = u16::from_be_bytes([high, low]);
            packet.fragment = Fragment::new(u32::from_be_bytes([a, b, c, d]), part >> 3, part & 1 != 0);
            if packet.fragment.is_some() {
                return Ok(packet);
            }
        }
    }
}

fn up_to(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(header_start: [u8; 4], rest: &[u8]) -> Vec<u8> {
        [&header_start[..], &[0, 0, 0, 0, 64, protocol::UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], rest].concat()
    }

    fn v6(next_header: u8, payload: &[u8]) -> Result<(u8, bool, Vec<u8>, usize), Undecodable> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let header = [&[0x60, 0, 0, 0], &length[..], &[next_header, 64], &[0; 32], payload].concat();
        let packet = decode(IpVersion::V6, &header)?;
        Ok((packet.protocol, packet.starts_here(), packet.payload.to_vec(), packet.length))
    }

    #[test]
    fn ipv4_lengths() {
        let payload = |packet: &[u8]| decode(IpVersion::V4, packet).map(|packet| packet.payload.to_vec());
        assert_eq!(payload(&v4([0x45, 0, 0, 22], b"abc")), Ok(b"ab".to_vec()), "padding");
        assert_eq!(payload(&v4([0x45, 0, 0, 99], b"abc")), Ok(b"abc".to_vec()), "cut");
        assert_eq!(payload(&v4([0x45, 0, 0, 0], b"abc")), Ok(b"abc".to_vec()), "unset");
        assert_eq!(payload(&v4([0x46, 0, 0, 25], b"....a")), Ok(b"a".to_vec()), "options");
        assert_eq!(payload(&v4([0x46, 0, 0, 25], b"...")), Err(Undecodable::Cut));
        assert_eq!(payload(&v4([0x44, 0, 0, 22], b"abc")), Err(Undecodable::Malformed));
        assert_eq!(payload(&v4([0x65, 0, 0, 22], b"abc")), Err(Undecodable::Malformed));
    }

    #[test]
    fn extension_headers() {
        assert_eq!(v6(17, b"abc"), Ok((17, true, b"abc".to_vec(), 3)));
        let two = [60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, b'a'];
        assert_eq!(v6(protocol::HOP_BY_HOP_OPTIONS, &two), Ok((17, true, b"a".to_vec(), 1)));
        let authenticated = [17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'a'];
        assert_eq!(v6(protocol::AUTHENTICATION, &authenticated), Ok((17, true, b"a".to_vec(), 1)));
        for cut in 1..24 {
            assert_eq!(v6(protocol::HOP_BY_HOP_OPTIONS, &two[..cut]), Err(Undecodable::Cut), "cut at {cut}");
        }
    }

    #[test]
    fn fragments() {
        let fragment = |part: u8| [protocol::DESTINATION_OPTIONS, 0, 0, part, 0, 0, 0, 1, 17, 0];
        let (first, later) = (v6(protocol::FRAGMENT, &fragment(1)), v6(protocol::FRAGMENT, &fragment(8)));
        assert_eq!(first, Ok((protocol::DESTINATION_OPTIONS, true, vec![17, 0], 2)));
        assert_eq!(later, Ok((protocol::DESTINATION_OPTIONS, false, vec![17, 0], 2)));
        assert_eq!(
            v6(protocol::FRAGMENT, &fragment(0)),
            Err(Undecodable::Cut),
            "not a fragment: options follow"
        );
    }
}
