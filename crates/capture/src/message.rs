//! What a packet says about UDP.

use std::net::{IpAddr, SocketAddr};

use crate::ip::{self, IpVersion, protocol};
use crate::link::{self, LinkType};
use crate::{icmp, udp};

/// What one packet says about UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A UDP datagram, or its first fragment (RFC 768).
    Datagram {
        /// Who sent it.
        source: SocketAddr,
        /// To whom.
        destination: SocketAddr,
        /// Bytes of payload, as the UDP header has it.
        length: u16,
        /// What was captured of the payload: less than `length` in a fragment or a record cut by the snapshot
        /// length.
        payload: &'a [u8],
    },
    /// An ICMP error about a UDP datagram (RFC 792, RFC 4443).
    IcmpError {
        /// Who sent the error: a router on the way, or the host itself.
        sender: IpAddr,
        /// To whom: the source address of the datagram in error.
        receiver: IpAddr,
        /// ICMP type for IPv4 addresses, `ICMPv6` type for IPv6 addresses.
        icmp_type: u8,
        /// The code within the type.
        code: u8,
        /// Next-hop MTU in bytes, if this is "fragmentation needed" or "packet too big" and the router named
        /// one.
        mtu: Option<u32>,
        /// The datagram in error; `None` when too little of it was quoted or captured to know its ports.
        quoted: Option<Quoted>,
    },
}

/// The UDP datagram that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent the datagram.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// Bytes of its payload; `None` when the quote ends before the UDP length, or that is not a valid one.
    pub length: Option<u16>,
}

/// Decodes one packet. `None`: it is whole or not, but says nothing about UDP that we know how to read.
#[must_use]
pub fn dissect(link_type: LinkType, data: &[u8]) -> Option<Message<'_>> {
    let (version, data) = link::strip(link_type, data)?;
    let packet = ip::decode(version, data).ok()?;
    // Only the first fragment has the UDP or ICMP header.
    if !packet.starts_here {
        return None;
    }
    match (version, packet.protocol) {
        (_, protocol::UDP) => udp::datagram(&packet),
        (IpVersion::V4, protocol::ICMP) | (IpVersion::V6, protocol::ICMPV6) => icmp::error(version, &packet),
        _ => None,
    }
}
