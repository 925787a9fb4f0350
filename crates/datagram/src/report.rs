//! What a socket is told of the datagrams it sent: the error queue (`IP_RECVERR` in ip(7), `IPV6_RECVERR` in
//! ipv6(7)) and `SO_ERROR` (socket(7)).
//!
//! Both have to be read. An ICMP error is in the queue with its details and pending in `SO_ERROR` as well, where
//! one system call takes it (`sock_error()`) and the queue keeps it; some errors are in `SO_ERROR` alone
//! (`ENETDOWN`, or a queue without room). A queue that is not empty makes poll(2) return at once, for ever.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::{self, RawAddress, array};
use crate::control::{Beside, ControlBuffer, RECEIVE_ROOM, messages};

/// Reports kept until somebody asks. More than that are counted.
const KEPT: usize = 1024;

/// Errors taken from the queue at a time: who is flooded with them gets on with the work in between.
const TAKEN: usize = 256;

/// Bytes of the datagram in error: the longest, an `ICMPv6` error, fits into 1280 bytes (RFC 4443, 2.4).
const QUOTED: usize = 1280;

/// Who says that something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This host's kernel, without any packet.
    Local,
    /// An ICMP message (RFC 792).
    Icmp,
    /// An `ICMPv6` message (RFC 4443).
    Icmp6,
}

/// One error about one datagram that was sent, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What system calls say of it.
    pub errno: i32,
    /// Who says so.
    pub origin: Origin,
    /// ICMP or `ICMPv6` type; 0 if local.
    pub icmp_type: u8,
    /// The code within the type; 0 if local.
    pub code: u8,
    /// To whom the datagram was to go.
    pub peer: Option<SocketAddr>,
    /// From which of this host's addresses.
    pub local: Option<IpAddr>,
    /// Who sent the ICMP message.
    pub offender: Option<IpAddr>,
    /// The path's MTU in bytes, if the datagram was too big for it.
    pub mtu: Option<u32>,
    /// The first bytes of the datagram's payload.
    pub quoted: Vec<u8>,
    /// The datagram was sent after all, but not from `local`, which the host has lost.
    pub stale: bool,
}

impl Report {
    /// What a system call said, and nobody explained.
    pub(crate) fn bare(errno: i32) -> Self {
        Self {
            errno,
            origin: Origin::Local,
            icmp_type: 0,
            code: 0,
            peer: None,
            local: None,
            offender: None,
            mtu: None,
            quoted: Vec::new(),
            stale: false,
        }
    }
}

/// The reports that nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Reports {
    kept: VecDeque<Report>,
    total: u64,
    lost: u64,
}

impl Reports {
    /// Take everything that was reported until now.
    pub fn take(&mut self) -> Vec<Report> {
        mem::take(&mut self.kept).into()
    }

    /// How many were thrown away, the oldest first, since nobody asked for them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Take over what somebody else has found.
    pub fn merge(&mut self, other: &mut Self) {
        self.lost += mem::take(&mut other.lost);
        for report in mem::take(&mut other.kept) {
            self.add(report);
        }
    }

    /// How many there have been, whether kept, taken or lost.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Take back the newest, as if it had never been added.
    pub fn pop(&mut self) -> Option<Report> {
        let newest = self.kept.pop_back()?;
        self.total -= 1;
        Some(newest)
    }

    /// Keep one more.
    pub fn add(&mut self, report: Report) {
        self.total += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
            self.lost += 1;
        }
        self.kept.push_back(report);
    }

    /// Read `SO_ERROR` and then the error queue until it is empty, or until there was a lot.
    ///
    /// `told` is what a receiving call has just returned, which took it from `SO_ERROR`. What neither that nor
    /// `SO_ERROR` finds explained in the queue becomes a report without details.
    ///
    /// # Errors
    /// Only what means that the descriptor is no socket (any more).
    pub fn drain(&mut self, fd: BorrowedFd<'_>, told: Option<i32>) -> io::Result<Drained> {
        let mut drained = Drained::default();
        // First: an error that is pending here is in the queue already, if it ever will be (udp_err()).
        let mut unexplained = [told, pending(fd)?];
        let mut empty = false;
        for _ in 0..TAKEN {
            let Some(report) = next_queued(fd)? else {
                empty = true;
                break;
            };
            for told in &mut unexplained {
                told.take_if(|errno| *errno == report.errno);
            }
            if report.origin == Origin::Local {
                drained.local = Some(report);
            } else {
                drained.earlier = true;
                self.add(report);
            }
        }
        drained.rest = !empty;
        drained.explained = unexplained[0].is_none();
        for errno in unexplained.into_iter().flatten().filter(|_| empty) {
            drained.earlier = true;
            self.add(Report::bare(errno));
        }
        Ok(drained)
    }
}

/// What [`Reports::drain`] has just found.
#[derive(Debug, Default)]
pub struct Drained {
    /// Whether there are new reports, about earlier datagrams.
    pub earlier: bool,
    /// Whether one of them is about what a receiving call was told, if it was.
    pub explained: bool,
    /// Whether there may be more in the queue.
    pub rest: bool,
    /// What the kernel queued when a call to send failed (`ip_local_error()`). It is not among the reports: the
    /// sender knows more, but for the MTU.
    pub local: Option<Report>,
}

/// Take the next error from the queue; `None` when there is none. Timestamps and zero-copy notifications, which
/// somebody may have asked this socket for, are passed over.
fn next_queued(fd: BorrowedFd<'_>) -> io::Result<Option<Report>> {
    loop {
        match read_queue(fd) {
            Ok(Some(report)) => return Ok(Some(report)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// One recvmsg(2) from the queue; `None` when what it held was no error.
fn read_queue(fd: BorrowedFd<'_>) -> io::Result<Option<Report>> {
    let mut name = RawAddress::EMPTY;
    let mut control = ControlBuffer::<{ 2 * RECEIVE_ROOM }>::EMPTY;
    let mut quoted = [0_u8; QUOTED];
    let mut vector = libc::iovec { iov_base: quoted.as_mut_ptr().cast(), iov_len: quoted.len() };
    let mut header = libc::msghdr {
        msg_name: (&raw mut name).cast(),
        msg_namelen: RawAddress::LENGTH,
        msg_iov: &raw mut vector,
        msg_iovlen: 1,
        msg_control: (&raw mut control).cast(),
        msg_controllen: control.bytes.len(),
        msg_flags: 0,
    };
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header points to a name, a vector and a control buffer of the lengths it names, which all
    // outlive the call.
    #[expect(unsafe_code, reason = "a system call")]
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let control = &control.bytes[..header.msg_controllen.min(control.bytes.len())];
    let peer = name.read(header.msg_namelen as usize);
    Ok(explain(control, peer, &quoted[..length.min(QUOTED)]))
}

/// `struct sock_extended_err` and, behind it, the offender's address (`SO_EE_OFFENDER`).
fn explain(control: &[u8], peer: Option<SocketAddr>, quoted: &[u8]) -> Option<Report> {
    let (_, _, error) = messages(control).find(|&(level, kind, _)| {
        matches!((level, kind), (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR))
    })?;
    let errno = i32::from_ne_bytes(array(error, 0)?);
    let [origin, icmp_type, code, _] = array(error, 4)?;
    let info = u32::from_ne_bytes(array(error, 8)?);
    let origin = match origin {
        libc::SO_EE_ORIGIN_LOCAL => Origin::Local,
        libc::SO_EE_ORIGIN_ICMP => Origin::Icmp,
        libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmp6,
        _ => return None,
    };
    let offender = error.get(size_of::<libc::sock_extended_err>()..).and_then(address::read);
    Some(Report {
        errno,
        origin,
        icmp_type,
        code,
        peer,
        // The ICMP message came to the address that the datagram had left from.
        local: Beside::read(control).destination,
        offender: offender.map(|offender| offender.ip()),
        mtu: (errno == libc::EMSGSIZE && info > 0).then_some(info),
        quoted: quoted.to_vec(),
        stale: false,
    })
}

/// Read and clear `SO_ERROR`.
pub(crate) fn pending(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut errno: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&errno)).expect("4 bytes");
    // SAFETY: the value and its length are valid for the call; the kernel writes at most `length` bytes.
    #[expect(unsafe_code, reason = "a system call")]
    let status = unsafe {
        let value = (&raw mut errno).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut length)
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((errno != 0).then_some(errno))
}
