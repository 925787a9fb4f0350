//! Addresses: between Rust's types and `struct sockaddr_in` and `sockaddr_in6` (ip(7), ipv6(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`; dual-stack unless `IPV6_V6ONLY` is set. IPv4 peers are `::ffff:a.b.c.d` to the kernel, and
    /// IPv4 addresses here.
    V6,
}

/// The two ends of a datagram as an answer needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Who sent the datagram; the scope of a link-local address is in it.
    pub peer: SocketAddr,
    /// The address that an answer should leave from. `None`: the kernel did not say (an IPv6 multicast
    /// request), so the route chooses.
    pub local: Option<IpAddr>,
    /// The index of the interface that received it; 0 if the kernel did not say.
    pub interface: u32,
}

impl Path {
    /// The interface to name when answering: a link-local source is ambiguous without one. Elsewhere the
    /// routing table decides, so that asymmetric routes and VRFs keep working.
    pub(crate) fn pinned_interface(&self) -> u32 {
        match self.local {
            Some(IpAddr::V6(local)) if local.is_unicast_link_local() => self.interface,
            _ => 0,
        }
    }
}

/// Room for a socket address of either family, as the kernel reads and writes it.
#[repr(C, align(4))]
#[derive(Clone, Copy)]
pub(crate) struct RawAddress {
    bytes: [u8; Self::SIZE],
}

/// `sa_family_t` of the two families.
#[expect(clippy::cast_possible_truncation, reason = "2 and 10")]
const AF_INET: u16 = libc::AF_INET as u16;
#[expect(clippy::cast_possible_truncation, reason = "2 and 10")]
const AF_INET6: u16 = libc::AF_INET6 as u16;

impl RawAddress {
    /// `sizeof(struct sockaddr_in6)`, the larger of the two.
    pub(crate) const SIZE: usize = size_of::<libc::sockaddr_in6>();
    /// The same as the kernel counts it.
    #[expect(clippy::cast_possible_truncation, reason = "28")]
    pub(crate) const LENGTH: libc::socklen_t = Self::SIZE as libc::socklen_t;
    pub(crate) const EMPTY: Self = Self { bytes: [0; Self::SIZE] };

    /// Write an address as a socket of this family takes it. Returns the bytes that count.
    pub(crate) fn write(&mut self, address: SocketAddr, family: Family) -> io::Result<usize> {
        let v6 = match (address, family) {
            (SocketAddr::V4(v4), Family::V4) => {
                self.bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
                self.bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
                self.bytes[4..8].copy_from_slice(&v4.ip().octets());
                self.bytes[8..16].fill(0);
                return Ok(size_of::<libc::sockaddr_in>());
            }
            (SocketAddr::V4(v4), Family::V6) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
            (SocketAddr::V6(v6), Family::V6) => v6,
            (SocketAddr::V6(_), Family::V4) => {
                return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
            }
        };
        self.bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
        self.bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
        self.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
        self.bytes[8..24].copy_from_slice(&v6.ip().octets());
        self.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
        Ok(Self::SIZE)
    }

    /// The address that the kernel wrote, of which `length` bytes count.
    pub(crate) fn read(&self, length: usize) -> Option<SocketAddr> {
        read(self.bytes.get(..length)?)
    }
}

/// A `struct sockaddr_in` or `sockaddr_in6`; mapped addresses come out as IPv4. `None` for anything else.
pub(crate) fn read(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array(bytes, 2)?);
    match u16::from_ne_bytes(array(bytes, 0)?) {
        AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(array(bytes, 4)?), port).into()),
        AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
            if let Some(mapped) = ip.to_ipv4_mapped() {
                return Some(SocketAddrV4::new(mapped, port).into());
            }
            let flow = u32::from_be_bytes(array(bytes, 4)?);
            Some(SocketAddrV6::new(ip, port, flow, u32::from_ne_bytes(array(bytes, 24)?)).into())
        }
        _ => None,
    }
}

/// `N` bytes at an offset, if they are there.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(address: &str, family: Family) -> SocketAddr {
        let mut raw = RawAddress::EMPTY;
        let length = raw.write(address.parse().unwrap(), family).unwrap();
        raw.read(length).unwrap()
    }

    #[test]
    fn an_address_comes_back_as_it_went_in() {
        assert_eq!(through("192.0.2.1:53", Family::V4).to_string(), "192.0.2.1:53");
        assert_eq!(through("192.0.2.1:53", Family::V6).to_string(), "192.0.2.1:53");
        assert_eq!(through("[fe80::1%7]:53", Family::V6).to_string(), "[fe80::1%7]:53");
    }

    #[test]
    fn an_ipv6_peer_is_refused_by_an_ipv4_socket() {
        let mut raw = RawAddress::EMPTY;
        let refusal = raw.write("[::1]:53".parse().unwrap(), Family::V4).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EAFNOSUPPORT));
    }

    #[test]
    fn a_short_or_foreign_address_is_none() {
        let mut raw = RawAddress::EMPTY;
        let length = raw.write("[2001:db8::1]:53".parse().unwrap(), Family::V6).unwrap();
        for shorter in 0..length {
            assert_eq!(raw.read(shorter), None);
        }
        assert_eq!(raw.read(length + 1), None);
        assert_eq!(read(&[0; 28]), None);
    }
}
