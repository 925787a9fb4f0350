//! The UDP header (RFC 768).

use std::net::SocketAddr;

use crate::ip::IpPacket;
use crate::message::{Checksum, Message, Quoted};

const HEADER_LENGTH: u16 = 8;

/// A datagram that was captured itself. `None`: its header is cut, or claims to be shorter than a header.
///
/// That includes the length 0 of an IPv6 jumbogram (RFC 2675), which no 16-bit length can tell.
pub(crate) fn datagram<'a>(packet: &IpPacket<'a>) -> Option<Message<'a>> {
    let (_header, rest) = packet.payload.split_first_chunk::<{ HEADER_LENGTH as usize }>()?;
    let Quoted { source, destination, length } = quoted(packet)?;
    let length = length?;
    // What follows the length is padding, even if the IP header counts it.
    let payload = rest.get(..usize::from(length)).unwrap_or(rest);
    Some(Message::Datagram { source, destination, length, payload, checksum: Checksum::Unknown })
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
    use std::net::IpAddr;

    use super::*;
    use crate::ip::protocol;

    const HEADER: [u8; 10] = [0x30, 0x39, 0, 53, 0, 10, 0, 0, b'h', b'i'];

    fn packet(payload: &[u8]) -> IpPacket<'_> {
        let address = IpAddr::from([127, 0, 0, 1]);
        IpPacket {
            source: address,
            destination: address,
            protocol: protocol::UDP,
            starts_here: true,
            payload,
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
        for length in 0..8 {
            header[5] = length;
            assert_eq!(datagram(&packet(&header)), None);
            assert_eq!(quoted(&packet(&header)).unwrap().length, None);
        }
    }

    #[test]
    fn padding_is_not_payload() {
        let mut header = HEADER;
        header[5] = 9;
        let datagram = datagram(&packet(&header));
        assert!(matches!(datagram, Some(Message::Datagram { length: 1, payload: b"h", .. })), "{datagram:?}");
    }
}
