//! Sending many datagrams with one sendmmsg(2), each from the address that it has to leave from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::{Family, Path, RawAddress};
use crate::control::{ControlBuffer, SEND_ROOM};
use crate::report::{Origin, Report, Reports};

/// Datagrams that GSO may make one message of: `UDP_MAX_SEGMENTS` before Linux 6.9 (net/ipv4/udp.c).
const SEGMENTS: usize = 64;

/// Bytes of payload that an IPv4 packet holds: 65535 less the IPv4 and UDP headers (RFC 791, RFC 768).
const LARGEST: usize = 65_507;

/// Bytes of a datagram that could not be sent which its report quotes.
const QUOTED: usize = 64;

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its payload.
    pub data: &'a [u8],
    /// To whom; `None` on a connected socket.
    pub peer: Option<SocketAddr>,
    /// From which of this host's addresses; `None` lets the route choose.
    pub local: Option<IpAddr>,
    /// The interface that `local` belongs to, where that is not unique; else 0.
    pub interface: u32,
}

impl<'a> Outgoing<'a> {
    /// An answer to whoever sent a datagram, from the address that was asked.
    #[must_use]
    pub fn answer(path: &Path, data: &'a [u8]) -> Self {
        Self { data, peer: Some(path.peer), local: path.local, interface: path.pinned_interface() }
    }

    /// Whether another one may travel in the same message, but for its length.
    fn same_way(&self, other: &Self) -> bool {
        (self.peer, self.local, self.interface) == (other.peer, other.local, other.interface)
    }
}

/// How to send, and on which socket.
#[derive(Clone, Copy, Debug)]
pub struct Deliver<'a> {
    /// The socket.
    pub fd: BorrowedFd<'a>,
    /// Its address family.
    pub family: Family,
    /// Let the kernel cut one message into datagrams where several go the same way (`UDP_SEGMENT` in udp(7)).
    pub gso: bool,
    /// Flags of sendmsg(2), beside `MSG_DONTWAIT`.
    pub flags: libc::c_int,
    /// Stop at an error that an earlier datagram had met, before the next is sent.
    pub stop_at_earlier: bool,
}

/// How far [`Outbox::deliver`] came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams that are done with: sent, or reported.
    pub done: usize,
    /// How many of these the kernel did not take.
    pub failed: usize,
    /// How many of them left from the route's address, since the host had lost theirs.
    pub stale: usize,
    /// Why it stopped before the end: the send buffer is full.
    pub would_block: bool,
    /// Why it stopped before the end: this had happened to an earlier datagram.
    pub earlier: Option<Report>,
}

/// Memory for a batch of messages on their way out.
pub struct Outbox {
    /// Each points into the vectors below, which never grow.
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<ControlBuffer<SEND_ROOM>>,
    /// How many datagrams each message carries.
    spans: Vec<usize>,
}

// SAFETY: the raw pointers in `headers` lead to memory that this value alone owns; those in `vectors` are
// followed only during the call of `send` that has set them.
#[expect(unsafe_code, reason = "raw pointers into its own memory")]
unsafe impl Send for Outbox {}

/// What became clear about the datagram that is next.
#[derive(Clone, Copy, Default)]
struct Next {
    /// It cannot be sent from where it should be, as `told` said.
    unpinned: bool,
    /// An errno that nothing in the error queue explains.
    told: Option<i32>,
}

impl Outbox {
    /// Room for this many datagrams.
    #[must_use]
    pub fn new(batch: usize) -> Self {
        let mut names = vec![RawAddress::EMPTY; batch];
        let mut controls = vec![ControlBuffer::EMPTY; batch];
        let mut vectors = vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; batch];
        let (names_start, controls_start) = (names.as_mut_ptr(), controls.as_mut_ptr());
        let vectors_start = vectors.as_mut_ptr();
        let headers = (0..batch)
            .map(|slot| libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: names_start.wrapping_add(slot).cast(),
                    msg_namelen: 0,
                    msg_iov: vectors_start.wrapping_add(slot),
                    msg_iovlen: 0,
                    msg_control: controls_start.wrapping_add(slot).cast(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            })
            .collect();
        Self { headers, vectors, names, controls, spans: vec![0; batch] }
    }

    /// Send these datagrams; what cannot be sent is reported, and the rest goes on. Never blocks.
    ///
    /// # Errors
    /// Only what no other datagram would fare better with: the descriptor is no socket (any more).
    pub fn deliver(
        &mut self,
        how: &Deliver<'_>,
        datagrams: &[Outgoing<'_>],
        reports: &mut Reports,
    ) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut next = Next::default();
        // Up to here datagrams are sent one by one: the kernel did not take them as one message.
        let mut single_until = 0_usize;
        while let Some(datagram) = datagrams.get(outcome.done) {
            let single = single_until.saturating_sub(outcome.done);
            let error = match self.send(how, &datagrams[outcome.done..], single, next.unpinned) {
                Ok(sent) => {
                    if next.unpinned {
                        outcome.stale += 1;
                    }
                    if let Some(errno) = next.told {
                        let stale = next.unpinned.then(|| Report { stale: true, ..refusal(errno, datagram) });
                        reports.add(stale.unwrap_or_else(|| Report::bare(errno)));
                    }
                    outcome.done += sent;
                    next = Next::default();
                    continue;
                }
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::WouldBlock {
                // Errors in the queue would end every wait for room at once.
                reports.drain(how.fd, None)?;
                outcome.would_block = true;
                break;
            }
            let Some(errno) = error.raw_os_error() else { return Err(error) };
            let drained = reports.drain(how.fd, None)?;
            if how.stop_at_earlier && drained.earlier {
                outcome.earlier = reports.pop();
                break;
            }
            // It may have been an earlier datagram's error, which sending took from the socket: again, as long
            // as there are such errors, and once if nothing says whose it was.
            // No ICMP error becomes EPERM: a rule of this host's refused this one, and may have queued one, too.
            let never_earlier = matches!(errno, libc::ENOBUFS | libc::EPERM);
            let about_this = how.stop_at_earlier || drained.local.is_some() || never_earlier;
            if !about_this && !next.unpinned && (drained.earlier || next.told.is_none()) {
                next.told = next.told.or((!drained.earlier).then_some(errno));
                continue;
            }
            let span = self.spans[0];
            if span > 1 && how.gso {
                single_until = outcome.done + span;
                next = Next::default();
            } else if datagram.local.is_some() && !next.unpinned && is_stale(errno) {
                next = Next { unpinned: true, told: Some(errno) };
            } else {
                // What no packet can hold is not the path's fault.
                let possible = datagram.data.len() <= LARGEST;
                let mtu = drained.local.and_then(|local| local.mtu).filter(|_| possible);
                reports.add(Report { mtu, ..refusal(errno, datagram) });
                outcome.done += 1;
                outcome.failed += 1;
                next = Next::default();
            }
        }
        Ok(outcome)
    }

    /// Send as many as one call takes: the first `single` of them one by one, the very first `unpinned`. Returns
    /// how many datagrams went; an error is about the first message, which carries `self.spans[0]` of them.
    fn send(
        &mut self,
        how: &Deliver<'_>,
        datagrams: &[Outgoing<'_>],
        single: usize,
        unpinned: bool,
    ) -> io::Result<usize> {
        let mut messages = 0;
        let mut packed = 0;
        self.spans[0] = 1;
        while packed < datagrams.len().min(self.vectors.len()) {
            let rest = &datagrams[packed..datagrams.len().min(self.vectors.len())];
            let span = if how.gso && packed >= single { segments(rest) } else { 1 };
            let pinned = !(unpinned && packed == 0);
            match self.pack(how.family, messages, packed, &rest[..span], pinned) {
                Ok(()) => {}
                Err(error) if messages == 0 => return Err(error),
                Err(_) => break,
            }
            messages += 1;
            packed += span;
        }
        // SAFETY: the first `messages` headers point to names, vectors and controls of the lengths they name, all
        // of them `self`'s; the vectors point to payloads that `datagrams` borrows. The kernel only reads them.
        #[expect(unsafe_code, reason = "a system call")]
        let sent = unsafe {
            let count = u32::try_from(messages).unwrap_or(u32::MAX);
            let flags = how.flags | libc::MSG_DONTWAIT;
            libc::sendmmsg(how.fd.as_raw_fd(), self.headers.as_mut_ptr(), count, flags)
        };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        Ok(self.spans[..sent].iter().sum())
    }

    /// Make one message of some datagrams that go the same way.
    fn pack(
        &mut self,
        family: Family,
        message: usize,
        vector: usize,
        datagrams: &[Outgoing<'_>],
        pinned: bool,
    ) -> io::Result<()> {
        let first = datagrams[0];
        for (slot, datagram) in self.vectors[vector..].iter_mut().zip(datagrams) {
            slot.iov_base = datagram.data.as_ptr().cast_mut().cast();
            slot.iov_len = datagram.data.len();
        }
        let control = &mut self.controls[message];
        let mut end = 0;
        if let Some(local) = first.local.filter(|_| pinned) {
            end = push_source(control, end, local, first.interface);
        }
        if datagrams.len() > 1 {
            let size = u16::try_from(first.data.len()).expect("no more than LARGEST");
            end = control.push(end, libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        let name_length = first.peer.map_or(Ok(0), |peer| self.names[message].write(peer, family))?;
        let vectors_start = self.vectors.as_mut_ptr();
        let header = &mut self.headers[message].msg_hdr;
        header.msg_namelen = u32::try_from(name_length).expect("at most 28 bytes");
        header.msg_iov = vectors_start.wrapping_add(vector);
        header.msg_iovlen = datagrams.len();
        header.msg_controllen = end;
        self.spans[message] = datagrams.len();
        Ok(())
    }
}

/// How many of these one message can carry: the same way, the same size, only the last may be shorter.
fn segments(datagrams: &[Outgoing<'_>]) -> usize {
    let first = &datagrams[0];
    let size = first.data.len();
    if size == 0 {
        return 1;
    }
    let most = (LARGEST / size).clamp(1, SEGMENTS);
    let rest = &datagrams[1..];
    let alike =
        rest.iter().take(most - 1).take_while(|other| other.data.len() == size && first.same_way(other));
    let count = 1 + alike.count();
    // A shorter one can be the last.
    let shorter = datagrams
        .get(count)
        .is_some_and(|last| count < most && (1..size).contains(&last.data.len()) && first.same_way(last));
    count + usize::from(shorter)
}

/// `IP_PKTINFO` or `IPV6_PKTINFO`: where a datagram leaves from. A dual-stack socket takes either.
fn push_source(control: &mut ControlBuffer<SEND_ROOM>, end: usize, local: IpAddr, interface: u32) -> usize {
    match local {
        IpAddr::V4(local) => {
            let mut info = [0; 12];
            info[..4].copy_from_slice(&interface.to_ne_bytes());
            info[4..8].copy_from_slice(&local.octets());
            control.push(end, libc::SOL_IP, libc::IP_PKTINFO, &info)
        }
        IpAddr::V6(local) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&local.octets());
            info[16..].copy_from_slice(&interface.to_ne_bytes());
            control.push(end, libc::SOL_IPV6, libc::IPV6_PKTINFO, &info)
        }
    }
}

/// What sendmsg(2) says when the host does not have the source address that it is asked to use.
fn is_stale(errno: i32) -> bool {
    [libc::EINVAL, libc::EADDRNOTAVAIL, libc::ENETUNREACH, libc::ENODEV].contains(&errno)
}

/// The report about a datagram that this host did not send.
fn refusal(errno: i32, datagram: &Outgoing<'_>) -> Report {
    Report {
        origin: Origin::Local,
        peer: datagram.peer,
        local: datagram.local,
        quoted: datagram.data[..datagram.data.len().min(QUOTED)].to_vec(),
        ..Report::bare(errno)
    }
}
