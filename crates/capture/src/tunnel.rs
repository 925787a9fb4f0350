//! Tunnels: from the packet outside to the one in it.

use crate::ip::{IpPacket, IpVersion, protocol};
use crate::link::{self, Behind, Network, NoPacket, Step};

/// The packet in a tunnel that is not UDP; `None`: not a tunnel.
pub(crate) fn inner<'a>(packet: &IpPacket<'a>) -> Option<Network<'a>> {
    let data = packet.payload;
    match packet.protocol {
        protocol::IPV4 => Some(Ok((IpVersion::V4, data))),
        protocol::IPV6 => Some(Ok((IpVersion::V6, data))),
        protocol::GRE => Some(link::network(gre(data))),
        // EtherIP (RFC 3378).
        protocol::ETHERNET => data.get(2..).map(|data| link::network(link::ethernet(data))),
        // A multicast packet on its way to the rendezvous point: PIM Register (RFC 7761).
        protocol::PIM if data.first() == Some(&0x21) => {
            data.get(8..).map(|data| link::network(link::raw(data)))
        }
        protocol::MPLS => Some(link::network(link::mpls(data))),
        _ => None,
    }
}

const CUT: NoPacket = NoPacket::Unread("cut within a tunnel's header");

/// RFC 2784, RFC 2890; version 1, which carries PPP, RFC 2637.
fn gre(data: &[u8]) -> Step<'_> {
    let [flags, version, high, low, ..] = *data else { return Err(CUT) };
    let optional = |bit: u8, length: usize| if flags & bit != 0 { length } else { 0 };
    // Checksum, key, sequence number. A source route (bit 0x40) was never used.
    let length = match version & 7 {
        0 if flags & 0x40 == 0 => 4 + optional(0x80, 4) + optional(0x20, 4) + optional(0x10, 4),
        1 => 8 + optional(0x10, 4) + if version & 0x80 != 0 { 4 } else { 0 },
        _ => return Err(NoPacket::Other),
    };
    match u16::from_be_bytes([high, low]) {
        // Not a length here.
        ..=1500 => Err(NoPacket::Other),
        number => Ok(Behind::Typed(number, data.get(length..).ok_or(CUT)?)),
    }
}

/// VXLAN (RFC 7348) on its own port and on the one that Linux began with.
pub(crate) fn vxlan(destination_port: u16, payload: &[u8]) -> Option<Network<'_>> {
    match *payload {
        // The only flag says that there is a network identifier.
        [0x08, _, _, _, _, _, _, 0, ..] if matches!(destination_port, 4789 | 8472) => {
            Some(link::network(link::ethernet(&payload[8..])))
        }
        _ => None,
    }
}
