//! ICMP and `ICMPv6` errors, and the datagrams they quote.

use crate::ip::{self, IpPacket, IpVersion, Undecodable, protocol};
use crate::message::Message;
use crate::udp;

/// The messages that say a datagram did not arrive. Not among them: redirect, which forwards it all the same,
/// and source quench, which is obsolete and which Linux ignores (RFC 6633).
const fn is_error(version: IpVersion, icmp_type: u8) -> bool {
    match version {
        // Destination unreachable, time exceeded, parameter problem.
        IpVersion::V4 => matches!(icmp_type, 3 | 11 | 12),
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        IpVersion::V6 => matches!(icmp_type, 1..=4),
    }
}

/// The MTU of the next hop. A router from before RFC 1191 names none and writes 0.
fn next_hop_mtu(version: IpVersion, icmp_type: u8, code: u8, [a, b, c, d]: [u8; 4]) -> Option<u32> {
    let mtu = match (version, icmp_type, code) {
        (IpVersion::V4, 3, 4) => u32::from_be_bytes([0, 0, c, d]),
        (IpVersion::V6, 2, _) => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    };
    (mtu != 0).then_some(mtu)
}

/// An ICMP error about a UDP datagram. `None`: no error, cut within its header, or about something else than
/// UDP.
pub(crate) fn error(packet: &IpPacket<'_>) -> Option<Message<'static>> {
    let version = packet.version();
    let (&[icmp_type, code, _, _, a, b, c, d], quote) = packet.payload.split_first_chunk::<8>()?;
    // Each version has its own ICMP.
    if packet.protocol != version.icmp() {
        return None;
    }
    if !is_error(version, icmp_type) {
        return None;
    }
    let quoted = match ip::decode(version, quote) {
        // A later fragment, of which IPv6 does not say what it is part of.
        Ok(original) if !original.starts_here() && version == IpVersion::V6 => None,
        Ok(original) if !original.starts_here() && original.protocol == protocol::UDP => None,
        Ok(original) => match original.upper() {
            Ok(original) if original.protocol == protocol::UDP => udp::quoted(&original),
            Ok(_) => return None,
            Err(_) => None,
        },
        // Too little was quoted or captured to know what it is about. That something was refused is worth
        // telling all the same.
        Err(Undecodable::Cut) => None,
        Err(Undecodable::Malformed) => return None,
    };
    Some(Message::IcmpError {
        sender: packet.source,
        receiver: packet.destination,
        icmp_type,
        code,
        mtu: next_hop_mtu(version, icmp_type, code, [a, b, c, d]),
        quoted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtu_only_where_it_is_defined() {
        assert_eq!(
            next_hop_mtu(IpVersion::V4, 3, 4, [0xff, 0xff, 5, 0xdc]),
            Some(1500),
            "the upper half is unused"
        );
        assert_eq!(next_hop_mtu(IpVersion::V4, 3, 4, [0; 4]), None, "RFC 1191: old routers");
        assert_eq!(next_hop_mtu(IpVersion::V4, 3, 3, [0, 0, 5, 0xdc]), None);
        assert_eq!(next_hop_mtu(IpVersion::V6, 2, 0, [0, 1, 0, 0]), Some(65536));
        assert_eq!(next_hop_mtu(IpVersion::V6, 1, 4, [0, 0, 5, 0xdc]), None);
    }
}
