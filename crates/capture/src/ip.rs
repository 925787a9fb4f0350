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
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpVersion {
    V4,
    V6,
}

/// An IP packet with its options and extension headers taken off.
#[derive(Debug)]
pub(crate) struct IpPacket<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// The payload starts at its beginning: this is a whole packet or the first fragment of one.
    pub(crate) starts_here: bool,
    /// As much as the header claims and the bytes hold. Link-layer padding is gone.
    pub(crate) payload: &'a [u8],
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
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let payload = data.get(header_length..).ok_or(Undecodable::Cut)?;
    Ok(IpPacket {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol: header[9],
        starts_here: fragment_offset == 0,
        payload: match total_length.checked_sub(header_length) {
            Some(length) => up_to(payload, length),
            // Not filled in yet when it was captured, or mangled by the host that quotes it.
            None => payload,
        },
    })
}

/// RFC 8200, section 3.
fn decode_v6(data: &[u8]) -> Result<IpPacket<'_>, Undecodable> {
    let (header, payload) = data.split_first_chunk::<40>().ok_or(Undecodable::Cut)?;
    let (_, addresses) = header.split_first_chunk::<8>().ok_or(Undecodable::Cut)?;
    let (source, destination) = addresses.split_first_chunk::<16>().ok_or(Undecodable::Cut)?;
    let destination = destination.first_chunk::<16>().ok_or(Undecodable::Cut)?;
    let payload = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        // A jumbogram, or not filled in yet when it was captured.
        0 => payload,
        length => up_to(payload, length),
    };
    let upper = skip_extension_headers(header[6], payload).ok_or(Undecodable::Cut)?;
    Ok(IpPacket {
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(*destination).into(),
        protocol: upper.protocol,
        starts_here: upper.starts_here,
        payload: upper.payload,
    })
}

/// What an IPv6 packet carries behind its extension headers.
struct UpperLayer<'a> {
    protocol: u8,
    starts_here: bool,
    payload: &'a [u8],
}

/// Steps over IPv6 extension headers (RFC 8200, section 4). `None`: the bytes end within one.
fn skip_extension_headers(mut next_header: u8, mut payload: &[u8]) -> Option<UpperLayer<'_>> {
    loop {
        // The second byte counts units beyond the first eight bytes, and so every turn steps on.
        let length = match next_header {
            protocol::HOP_BY_HOP_OPTIONS | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                8 + usize::from(*payload.get(1)?) * 8
            }
            protocol::AUTHENTICATION => 8 + usize::from(*payload.get(1)?) * 4,
            protocol::FRAGMENT => 8,
            _ => return Some(UpperLayer { protocol: next_header, starts_here: true, payload }),
        };
        let (header, rest) = payload.split_at_checked(length)?;
        let &[following, _, offset_high, offset_low, ..] = header else { return None };
        let later_fragment =
            next_header == protocol::FRAGMENT && u16::from_be_bytes([offset_high, offset_low]) >> 3 != 0;
        (next_header, payload) = (following, rest);
        if later_fragment {
            // Its bytes are from the middle of something, whatever the next-header field promises.
            return Some(UpperLayer { protocol: next_header, starts_here: false, payload });
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

    fn upper(next_header: u8, payload: &[u8]) -> Option<(u8, bool, &[u8])> {
        let upper = skip_extension_headers(next_header, payload)?;
        Some((upper.protocol, upper.starts_here, upper.payload))
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
        assert_eq!(upper(17, b"abc"), Some((17, true, &b"abc"[..])));
        let two = [60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, b'a'];
        assert_eq!(upper(protocol::HOP_BY_HOP_OPTIONS, &two), Some((17, true, &b"a"[..])));
        let authenticated = [17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'a'];
        assert_eq!(upper(protocol::AUTHENTICATION, &authenticated), Some((17, true, &b"a"[..])));
        for cut in 0..24 {
            assert_eq!(upper(protocol::HOP_BY_HOP_OPTIONS, &two[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn fragments() {
        let fragment = |offset: u8| [protocol::DESTINATION_OPTIONS, 0, 0, offset, 0, 0, 0, 1, 17, 0];
        assert_eq!(upper(protocol::FRAGMENT, &fragment(1)), None, "the first: the options are cut");
        let later = (protocol::DESTINATION_OPTIONS, false, &[17, 0][..]);
        assert_eq!(upper(protocol::FRAGMENT, &fragment(8)), Some(later), "a later one: there are none");
    }
}
