//! Fragments: which pieces of a datagram were seen (RFC 791, section 3.2; RFC 8200, section 4.5).
//!
//! Their bytes are not kept, but for the start, which has the ports. Captured bytes do not count but what the
//! headers claim, so that a snapshot length makes no difference.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::ip::{Fragment, IpPacket, IpVersion, protocol};
use crate::udp;

/// Incomplete datagrams at a time; the oldest is forgotten for another.
const DATAGRAMS: usize = 16_384;
/// Pieces of a datagram that lie apart from each other.
const PIECES: usize = 64;
/// Kept of the start of a datagram, in bytes: headers, also of a packet in a tunnel.
const HEAD: usize = 256;
/// How long Linux waits for the rest (`net.ipv4.ipfrag_time`, `net.ipv6.ip6frag_time`), in nanoseconds.
const PATIENCE_NS: [u64; 2] = [30_000_000_000, 60_000_000_000];

/// Where a packet was in its capture.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) time_ns: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    /// 0 in IPv6, where only the first fragment has the right one.
    protocol: u8,
    id: u32,
}

/// A datagram that came in fragments, as far as it is known.
pub(crate) struct Start {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
    head: Box<[u8]>,
    stamp: Stamp,
}

impl Start {
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The packet as if it had come whole and been cut by a snapshot length.
    pub(crate) fn packet(&self) -> Option<IpPacket<'_>> {
        let packet = IpPacket {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            fragment: None,
            payload: &self.head,
            length: self.length,
            rewritten: false,
        };
        packet.upper().ok()
    }
}

struct Pending {
    serial: u64,
    start: Option<Start>,
    /// What was seen, in order and apart: from, to.
    pieces: Vec<(u32, u32)>,
    /// Where the datagram ends, once the last fragment was seen.
    end: Option<u32>,
}

impl Pending {
    /// `false`: too many pieces to keep.
    fn add(&mut self, from: u32, to: u32) -> bool {
        let first = self.pieces.partition_point(|piece| piece.1 < from);
        let last = self.pieces.partition_point(|piece| piece.0 <= to);
        if first == last {
            self.pieces.insert(first, (from, to));
        } else {
            let joined = (from.min(self.pieces[first].0), to.max(self.pieces[last - 1].1));
            self.pieces.drain(first + 1..last);
            self.pieces[first] = joined;
        }
        self.pieces.len() <= PIECES
    }

    fn is_whole(&self) -> bool {
        self.start.is_some()
            && matches!((self.pieces.first(), self.end), (Some(&(0, to)), Some(end)) if to >= end)
    }
}

/// A datagram of which fragments are missing.
pub(crate) struct Lost {
    pub(crate) stamp: Stamp,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// All datagrams that are not whole yet.
#[derive(Default)]
pub(crate) struct Fragments {
    pending: HashMap<Key, Pending>,
    /// The order in which they began, IPv4 and IPv6: time, key, serial. What became whole since is still there.
    begun: [VecDeque<(u64, Key, u64)>; 2],
    serial: u64,
    now_ns: u64,
    lost: VecDeque<Lost>,
}

impl Fragments {
    /// Takes a fragment; returns the start of the datagram if it is the one that makes it whole.
    #[cold]
    pub(crate) fn add(&mut self, stamp: Stamp, packet: &IpPacket<'_>, fragment: Fragment) -> Option<Start> {
        let version = usize::from(packet.version() == IpVersion::V6);
        let key = Key {
            source: packet.source,
            destination: packet.destination,
            protocol: if version == 0 { packet.protocol } else { 0 },
            id: fragment.id,
        };
        let (from, to) = (fragment.offset, fragment.offset + u32::try_from(packet.length).ok()?);
        let pending = self.pending.entry(key).or_insert_with(|| {
            self.serial += 1;
            self.begun[version].push_back((self.now_ns, key, self.serial));
            Pending { serial: self.serial, start: None, pieces: Vec::new(), end: None }
        });
        let kept = pending.add(from, to);
        if !fragment.more {
            pending.end = pending.end.or(Some(to));
        }
        if from == 0 && pending.start.is_none() {
            pending.start = Some(Start {
                source: packet.source,
                destination: packet.destination,
                protocol: packet.protocol,
                length: 0,
                head: packet.payload[..packet.payload.len().min(HEAD)].into(),
                stamp,
            });
        }
        if pending.is_whole() {
            let whole = self.pending.remove(&key)?;
            return Some(Start { length: whole.end? as usize, ..whole.start? });
        }
        if !kept {
            self.pending.remove(&key);
        }
        self.bound(version);
        None
    }

    /// Forgets the oldest, of which nobody knows whether it would have become whole.
    fn bound(&mut self, version: usize) {
        let Self { pending, begun, .. } = self;
        let begun = &mut begun[version];
        if begun.len() > DATAGRAMS {
            begun.retain(|(_, key, serial)| pending.get(key).is_some_and(|found| found.serial == *serial));
            while begun.len() > DATAGRAMS / 2 {
                let Some((_, key, _)) = begun.pop_front() else { break };
                pending.remove(&key);
            }
        }
    }

    /// Lets time pass: what has waited too long is lost.
    pub(crate) fn pass(&mut self, time_ns: u64) {
        self.now_ns = self.now_ns.max(time_ns);
        for (version, patience_ns) in PATIENCE_NS.into_iter().enumerate() {
            while let Some(&(began, _, _)) = self.begun[version].front() {
                if self.now_ns - began <= patience_ns {
                    break;
                }
                self.lose_oldest(version);
            }
        }
    }

    /// The capture ends: what is not whole is lost.
    pub(crate) fn end(&mut self) {
        for version in 0..2 {
            while !self.begun[version].is_empty() {
                self.lose_oldest(version);
            }
        }
    }

    /// The next datagram that was lost, if it is known whose it was.
    pub(crate) fn next_lost(&mut self) -> Option<Lost> {
        self.lost.pop_front()
    }

    fn lose_oldest(&mut self, version: usize) {
        let Some((_, key, serial)) = self.begun[version].pop_front() else { return };
        if self.pending.get(&key).is_none_or(|pending| pending.serial != serial) {
            return;
        }
        let Some(start) = self.pending.remove(&key).and_then(|pending| pending.start) else { return };
        if let Some(packet) = start.packet() {
            if let (protocol::UDP, Some(ports)) = (packet.protocol, udp::quoted(&packet)) {
                let (source, destination) = (ports.source, ports.destination);
                self.lost.push_back(Lost { stamp: start.stamp, source, destination });
            }
        }
    }
}
