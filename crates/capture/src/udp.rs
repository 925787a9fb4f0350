//! The UDP header (RFC 768).

use std::net::{IpAddr, SocketAddr};

use crate::ip::{IpPacket, protocol};
use crate::message::{Checksum, Message, Quoted};

const HEADER_LENGTH: u16 = 8;

/// A datagram that was captured itself. `None`: its header is cut, or claims to be shorter than a header, and
/// the kernel drops it.
pub(crate) fn datagram<'a>(packet: &IpPacket<'a>) -> Option<Message<'a>> {
    let (header, rest) = packet.payload.split_first_chunk::<{ HEADER_LENGTH as usize }>()?;
    let claimed = match u16::from_be_bytes([header[4], header[5]]) {
        // A jumbogram (RFC 2675), or several datagrams that the card was to tell apart.
        0 => u16::try_from(packet.length).unwrap_or(u16::MAX),
        claimed => claimed,
    };
    let length = claimed.checked_sub(HEADER_LENGTH)?;
    let port = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Some(Message::Datagram {
        source: SocketAddr::new(packet.source, port(header[0], header[1])),
        destination: SocketAddr::new(packet.destination, port(header[2], header[3])),
        length,
        // What follows the length is padding, even if the IP header counts it.
        payload: rest.get(..usize::from(length)).unwrap_or(rest),
        checksum: checksum(packet, claimed, port(header[6], header[7])),
    })
}

/// RFC 768, RFC 8200, section 8.1.
fn checksum(packet: &IpPacket<'_>, claimed: u16, field: u16) -> Checksum {
    if field == 0 {
        // In IPv6, tunnels may leave it out (RFC 6935).
        return Checksum::Fine;
    }
    let Some(covered) = packet.payload.get(..usize::from(claimed)) else { return Checksum::Unknown };
    let addresses = match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        _ => return Checksum::Unknown,
    };
    let pseudo = addresses + u64::from(claimed) + u64::from(protocol::UDP);
    if fold(pseudo + sum(covered)) == 0xffff || fold(pseudo) == field {
        Checksum::Fine
    } else if packet.rewritten {
        Checksum::Unknown
    } else {
        Checksum::Wrong
    }
}

/// The sum of big-endian 16-bit words, not folded yet. Bytes of at most a datagram: it cannot overflow.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut sum = 0;
    for word in words.by_ref() {
        sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    sum + u64::from(u32::from_be_bytes(last))
}

/// The ones' complement sum in 16 bits.
fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum >> 16) + (sum & 0xffff),
        }
    }
}

/// A datagram of which an ICMP error quotes the start. `None`: the ports are not in the quote.
pub(crate) fn quoted(packet: &IpPacket<'_>) -> Option<Quoted> {
    let (source_port, rest) = packet.payload.split_first_chunk()?;
    let (destination_port, rest) = rest.split_first_chunk()?;
    Some(Quoted {
        source: SocketAddr::new(packet.source, u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(packet.destination, u16::from_be_bytes(*destination_port)),
        length: rest.first_chunk().and_then(|length| u16::from_be_bytes(*length).checked_sub(HEADER_LENGTH)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 10] = [0x30, 0x39, 0, 53, 0, 10, 0, 0, b'h', b'i'];

    fn packet(payload: &[u8]) -> IpPacket<'_> {
        let address = IpAddr::from([127, 0, 0, 1]);
        IpPacket {
            source: address,
            destination: address,
            protocol: protocol::UDP,
            fragment: None,
            payload,
            length: payload.len(),
            rewritten: false,
        }
    }

    fn verdict(packet: &IpPacket<'_>) -> Checksum {
        match datagram(packet) {
            Some(Message::Datagram { checksum, .. }) => checksum,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_quote_gives_what_it_holds() {
        for (kept, ports, length) in [
            (3, None, None),
            (4, Some((12345, 53)), None),
            (5, Some((12345, 53)), None),
            (6, Some((12345, 53)), Some(2)),
        ] {
            let quote = quoted(&packet(&HEADER[..kept]));
            assert_eq!(
                quote.map(|quote| (quote.source.port(), quote.destination.port())),
                ports,
                "{kept} bytes"
            );
            assert_eq!(quote.and_then(|quote| quote.length), length, "{kept} bytes");
        }
    }

    #[test]
    fn a_length_below_the_header_is_no_datagram() {
        let mut header = HEADER;
        for length in 1..8 {
            header[5] = length;
            assert_eq!(datagram(&packet(&header)), None);
            assert_eq!(quoted(&packet(&header)).unwrap().length, None);
        }
        header[5] = 0;
        let jumbogram = datagram(&packet(&header));
        assert!(matches!(jumbogram, Some(Message::Datagram { length: 2, .. })), "{jumbogram:?}");
    }

    #[test]
    fn padding_is_not_payload() {
        let mut header = HEADER;
        header[5] = 9;
        let datagram = datagram(&packet(&header));
        assert!(matches!(datagram, Some(Message::Datagram { length: 1, payload: b"h", .. })), "{datagram:?}");
    }

    #[test]
    fn checksums() {
        let with = |checksum: u16| {
            let mut bytes = HEADER;
            bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
            bytes
        };
        // 7f00 + 0001 twice, 17 and 10 for the pseudo-header; then the ports, the length and "hi".
        let pseudo = 0xfe02 + 17 + 10;
        let right = !fold(u64::from(pseudo) + 12345 + 53 + 10 + 0x6869);
        for (checksum, expected) in [
            (right, Checksum::Fine),
            (right ^ 1, Checksum::Wrong),
            (0, Checksum::Fine),
            (pseudo, Checksum::Fine),
            (!pseudo, Checksum::Wrong),
        ] {
            assert_eq!(verdict(&packet(&with(checksum))), expected, "{checksum:04x}");
        }
        assert_eq!(verdict(&packet(&with(right ^ 1)[..9])), Checksum::Unknown, "cut");
        assert_eq!(verdict(&IpPacket { rewritten: true, ..packet(&with(right ^ 1)) }), Checksum::Unknown);
    }

    #[test]
    fn sums_of_odd_lengths_are_filled_up_with_zeros() {
        for length in 0..9 {
            let bytes = [0xff, 1, 2, 3, 4, 5, 6, 7, 8];
            let words = bytes[..length]
                .chunks(2)
                .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)));
            assert_eq!(fold(sum(&bytes[..length])), fold(words.sum()), "{length}");
        }
    }
}
