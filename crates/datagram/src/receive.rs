//! Receiving many datagrams with one recvmmsg(2), into memory that is used again.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::{Path, RawAddress};
use crate::control::{Beside, ControlBuffer, RECEIVE_ROOM};

/// Slots start this many bytes apart from a power of two, so that not all of them fall on the same cache lines.
const STAGGER: usize = 192;

/// A datagram as it was received, in the arena.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its payload.
    pub data: &'a [u8],
    /// Who sent it, and what an answer should leave from.
    pub path: Path,
    /// The destination address in its header: a group or broadcast address, or the local one.
    pub destination: Option<IpAddr>,
    /// Type of service or traffic class; its two lowest bits are ECN (RFC 3168).
    pub tos: Option<u8>,
    /// Time to live or hop limit on arrival.
    pub ttl: Option<u8>,
    /// When the kernel received it, in nanoseconds since the epoch, if asked for.
    pub time_ns: Option<i64>,
    /// Whether it was longer than the room for it.
    pub truncated: bool,
}

/// Memory for a batch of datagrams and everything that comes beside them.
///
/// The payload's pages are taken from the system as they are first written to.
pub struct Arena {
    /// Each points into the vectors below, which never grow.
    headers: Vec<libc::mmsghdr>,
    _vectors: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<ControlBuffer<RECEIVE_ROOM>>,
    payload: Vec<u8>,
    largest: usize,
    /// How many slots the last call has filled.
    received: usize,
}

// SAFETY: the raw pointers in `headers` and `_vectors` lead to memory that this value alone owns.
#[expect(unsafe_code, reason = "raw pointers into its own memory")]
unsafe impl Send for Arena {}

impl Arena {
    /// Room for `batch` datagrams of up to `largest` bytes each.
    ///
    /// # Panics
    /// If `batch` or `largest` is 0.
    #[must_use]
    pub fn new(batch: usize, largest: usize) -> Self {
        assert!(batch > 0 && largest > 0, "an arena has room for something");
        let stride = largest + STAGGER;
        let mut payload = vec![0_u8; batch * stride];
        let mut names = vec![RawAddress::EMPTY; batch];
        let mut controls = vec![ControlBuffer::EMPTY; batch];
        // Pointers come from the vectors as wholes: none is invalidated by a later look at a neighbour.
        let slots = 0..batch;
        let (payload_start, names_start) = (payload.as_mut_ptr(), names.as_mut_ptr());
        let mut vectors: Vec<_> = slots
            .clone()
            .map(|slot| libc::iovec {
                iov_base: payload_start.wrapping_add(slot * stride).cast(),
                iov_len: largest,
            })
            .collect();
        let (vectors_start, controls_start) = (vectors.as_mut_ptr(), controls.as_mut_ptr());
        let headers = slots
            .map(|slot| libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: names_start.wrapping_add(slot).cast(),
                    msg_namelen: 0,
                    msg_iov: vectors_start.wrapping_add(slot),
                    msg_iovlen: 1,
                    msg_control: controls_start.wrapping_add(slot).cast(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            })
            .collect();
        Self { headers, _vectors: vectors, names, controls, payload, largest, received: 0 }
    }

    /// Receive what is there, at most `maximum` datagrams or a full batch; never blocks. `flags` are those of
    /// recvmsg(2), beside `MSG_DONTWAIT`.
    ///
    /// # Errors
    /// Those of recvmmsg(2): `WouldBlock` when nothing is there, or an error that was pending on the socket.
    pub fn receive(&mut self, fd: BorrowedFd<'_>, maximum: usize, flags: libc::c_int) -> io::Result<()> {
        self.received = 0;
        let count = maximum.min(self.headers.len());
        for header in &mut self.headers[..count] {
            header.msg_hdr.msg_namelen = RawAddress::LENGTH;
            header.msg_hdr.msg_controllen = RECEIVE_ROOM;
        }
        let flags = flags | libc::MSG_DONTWAIT;
        // SAFETY: the first `count` headers point to names, vectors and controls of the lengths they name; all
        // belong to `self`, which is borrowed mutably, and no reference into them exists.
        #[expect(unsafe_code, reason = "a system call")]
        let received = unsafe {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            libc::recvmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), count, flags, std::ptr::null_mut())
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    /// What the last call received, in the order of its arrival, but for what was [`cut`](Self::cut). With
    /// `split`, what GRO had made one of is several datagrams again.
    pub fn datagrams(&self, split: bool) -> impl Iterator<Item = Received<'_>> {
        (0..self.received).filter(|&slot| !self.is_cut(slot)).flat_map(move |slot| self.slot(slot, split))
    }

    /// How many datagrams came whose control messages the kernel has cut: to which address is unknown.
    #[must_use]
    pub fn cut(&self) -> usize {
        (0..self.received).filter(|&slot| self.is_cut(slot)).count()
    }

    fn is_cut(&self, slot: usize) -> bool {
        self.headers[slot].msg_hdr.msg_flags & libc::MSG_CTRUNC != 0
    }

    fn slot(&self, slot: usize, split: bool) -> impl Iterator<Item = Received<'_>> {
        let libc::mmsghdr { msg_hdr: header, msg_len } = &self.headers[slot];
        let start = slot * (self.largest + STAGGER);
        let data = &self.payload[start..start + (*msg_len as usize).min(self.largest)];
        let control = &self.controls[slot].bytes[..header.msg_controllen.min(RECEIVE_ROOM)];
        let beside = Beside::read(control);
        let peer = self.names[slot].read(header.msg_namelen as usize);
        let path = Path {
            peer: peer.expect("udp_recvmsg() and udpv6_recvmsg() name the sender of every datagram"),
            local: beside.local,
            interface: beside.interface,
        };
        let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
        // An empty datagram is one datagram, too.
        let segment = beside.segment.filter(|_| split).unwrap_or(data.len()).max(1);
        let empty = data.is_empty().then_some(data);
        data.chunks(segment).chain(empty).map(move |data| Received {
            data,
            path,
            destination: beside.destination,
            tos: beside.tos,
            ttl: beside.ttl,
            time_ns: beside.time_ns,
            truncated,
        })
    }
}
