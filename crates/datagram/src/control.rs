//! Control messages: cmsg(3), ip(7), ipv6(7), udp(7). Reading and writing, both on bounded byte slices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::array;

/// `struct cmsghdr`: a length as wide as a pointer, the level, the type.
const HEADER: usize = align(size_of::<libc::cmsghdr>());
const LEVEL: usize = size_of::<usize>();
const TYPE: usize = LEVEL + size_of::<libc::c_int>();

/// Room for every control message that our own options can bring at once (176 bytes on a dual-stack socket
/// with timestamps and GRO), and for the few that a user may add. What is more than that is cut by the kernel,
/// and said so.
pub(crate) const RECEIVE_ROOM: usize = 256;

/// Room for an `IPV6_PKTINFO` and a `UDP_SEGMENT`.
pub(crate) const SEND_ROOM: usize = space(20) + space(2);

/// A control buffer, aligned as `struct cmsghdr` wants to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct ControlBuffer<const ROOM: usize> {
    pub(crate) bytes: [u8; ROOM],
}

impl<const ROOM: usize> ControlBuffer<ROOM> {
    pub(crate) const EMPTY: Self = Self { bytes: [0; ROOM] };

    /// Append a control message at `end`; returns the new end.
    ///
    /// # Panics
    /// If the room is too small, which is known when this is compiled: see [`SEND_ROOM`].
    pub(crate) fn push(&mut self, end: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let message = &mut self.bytes[end..end + space(data.len())];
        message[..LEVEL].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        message[LEVEL..TYPE].copy_from_slice(&level.to_ne_bytes());
        message[TYPE..TYPE + 4].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..HEADER + data.len()].copy_from_slice(data);
        end + message.len()
    }
}

/// `CMSG_ALIGN`.
const fn align(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

/// `CMSG_SPACE`.
pub(crate) const fn space(length: usize) -> usize {
    HEADER + align(length)
}

/// The control messages in a buffer: level, type, data. Ends at the first that does not fit.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from_ne_bytes(array(bytes, 0)?);
        let level = i32::from_ne_bytes(array(bytes, LEVEL)?);
        let kind = i32::from_ne_bytes(array(bytes, TYPE)?);
        let data = bytes.get(HEADER..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((level, kind, data))
    })
}

/// What the kernel says beside a datagram. Each field is filled when the option that asks for it is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// The destination in the datagram's header (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
    pub(crate) destination: Option<IpAddr>,
    /// The address to answer from; never a broadcast or multicast address.
    pub(crate) local: Option<IpAddr>,
    /// Index of the interface.
    pub(crate) interface: u32,
    /// Type of service or traffic class (`IP_RECVTOS`, `IPV6_RECVTCLASS`).
    pub(crate) tos: Option<u8>,
    /// Time to live or hop limit (`IP_RECVTTL`, `IPV6_RECVHOPLIMIT`).
    pub(crate) ttl: Option<u8>,
    /// Nanoseconds since the epoch (`SO_TIMESTAMPNS`).
    pub(crate) time_ns: Option<i64>,
    /// Bytes of each datagram when the kernel handed over several as one (`UDP_GRO`).
    pub(crate) segment: Option<usize>,
}

impl Beside {
    pub(crate) fn read(control: &[u8]) -> Self {
        let mut beside = Self::default();
        for (level, kind, data) in messages(control) {
            // A message that is shorter than its type says is left out.
            let _ = beside.add(level, kind, data);
        }
        beside
    }

    fn add(&mut self, level: i32, kind: i32, data: &[u8]) -> Option<()> {
        match (level, kind) {
            // struct in_pktinfo: ipi_ifindex, ipi_spec_dst, ipi_addr. On a dual-stack socket it comes after
            // IPV6_PKTINFO, and knows better: that one has no ipi_spec_dst.
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                self.interface = u32::from_ne_bytes(array(data, 0)?);
                let local = Ipv4Addr::from(array(data, 4)?);
                self.local = (!local.is_unspecified()).then_some(local.into());
                self.destination = Some(Ipv4Addr::from(array(data, 8)?).into());
            }
            // struct in6_pktinfo: ipi6_addr, ipi6_ifindex.
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                let destination = Ipv6Addr::from(array::<16>(data, 0)?);
                self.interface = u32::from_ne_bytes(array(data, 16)?);
                self.destination = Some(destination.to_canonical());
                self.local = (!destination.is_multicast()).then_some(destination.to_canonical());
            }
            (libc::SOL_IP, libc::IP_TOS) => self.tos = data.first().copied(),
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                self.ttl = u8::try_from(i32::from_ne_bytes(array(data, 0)?)).ok();
            }
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                self.tos = u8::try_from(i32::from_ne_bytes(array(data, 0)?)).ok();
            }
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => {
                let seconds = i64::from_ne_bytes(array(data, 0)?);
                self.time_ns = Some(seconds * 1_000_000_000 + i64::from_ne_bytes(array(data, 8)?));
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let segment = i32::from_ne_bytes(array(data, 0)?);
                self.segment = usize::try_from(segment).ok().filter(|&size| size > 0);
            }
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet_info(local: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        [7u32.to_ne_bytes(), local, destination].concat()
    }

    fn buffer(all: &[(i32, i32, Vec<u8>)]) -> (ControlBuffer<RECEIVE_ROOM>, usize) {
        let mut buffer = ControlBuffer::EMPTY;
        let end = all.iter().fold(0, |end, (level, kind, data)| buffer.push(end, *level, *kind, data));
        (buffer, end)
    }

    fn dual_stack_broadcast() -> (ControlBuffer<RECEIVE_ROOM>, usize) {
        let mapped = Ipv4Addr::new(172, 17, 255, 255).to_ipv6_mapped().octets();
        buffer(&[
            (libc::SOL_IPV6, libc::IPV6_PKTINFO, [&mapped[..], &7u32.to_ne_bytes()[..]].concat()),
            (libc::SOL_IP, libc::IP_PKTINFO, packet_info([172, 17, 0, 1], [172, 17, 255, 255])),
            (libc::SOL_IP, libc::IP_TOS, vec![2]),
            (libc::SOL_IP, libc::IP_TTL, 64i32.to_ne_bytes().to_vec()),
            (libc::SOL_UDP, libc::UDP_GRO, 1200i32.to_ne_bytes().to_vec()),
        ])
    }

    #[test]
    fn a_broadcast_request_is_answered_from_ipi_spec_dst_on_a_dual_stack_socket_too() {
        let (buffer, end) = dual_stack_broadcast();
        let beside = Beside::read(&buffer.bytes[..end]);
        assert_eq!(beside.local, Some("172.17.0.1".parse().unwrap()));
        assert_eq!(beside.destination, Some("172.17.255.255".parse().unwrap()));
        assert_eq!((beside.interface, beside.tos, beside.ttl), (7, Some(2), Some(64)));
        assert_eq!(beside.segment, Some(1200));
    }

    #[test]
    fn an_ipv6_group_is_nothing_to_answer_from() {
        let group = "ff02::1".parse::<Ipv6Addr>().unwrap().octets();
        let info = [&group[..], &3u32.to_ne_bytes()[..]].concat();
        let (buffer, end) = buffer(&[(libc::SOL_IPV6, libc::IPV6_PKTINFO, info)]);
        let beside = Beside::read(&buffer.bytes[..end]);
        assert_eq!((beside.local, beside.interface), (None, 3));
        assert_eq!(beside.destination, Some("ff02::1".parse().unwrap()));
    }

    #[test]
    fn whatever_is_cut_or_changed_is_read_within_bounds() {
        let (buffer, end) = dual_stack_broadcast();
        for shorter in 0..end {
            Beside::read(&buffer.bytes[..shorter]);
        }
        for place in 0..end {
            for value in [0, 1, 15, 16, 17, 127, 128, 255] {
                let mut changed = buffer;
                changed.bytes[place] = value;
                Beside::read(&changed.bytes[..end]);
            }
        }
    }

    #[test]
    fn a_length_of_nothing_ends_the_reading() {
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}
