//! What the kernel says it dropped, added up.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use udpkit_capture::{Book, Message, Moment, dissect};
use udpkit_datagram::{Drops, Fate, KernelEvent, monotonic_ns};

use crate::LINK;

/// The most that are told apart; the rest are only counted.
const MOST: usize = 10_000;
/// The packet comes from the ring later than its drop, at most this: then it is known whose it was.
const LATER_NS: u64 = 150_000_000;
/// The most events that wait for their packets, and the most that are read at a time.
const WAITING: usize = 20_000;
/// A firewall that rejects a datagram drops it right after it told the sender.
const REJECTS_WITHIN_NS: u64 = 1_000_000;

/// Datagrams from one endpoint to another that were dropped for one reason at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Who sent them.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// The kernel's name for it.
    pub reason: String,
    /// The kernel's function.
    pub function: String,
    /// How many.
    pub count: u64,
    /// The first; its number is that among all drops, and it comes after the messages that were taken before.
    pub first: Moment,
    /// The last.
    pub last: Moment,
    /// They were answers: the destination had asked the source.
    pub answers: bool,
    /// Type and code of the ICMP error that the kernel sent about one of them just before.
    pub icmp: Option<(u8, u8)>,
}

/// An ICMP error that the kernel has sent.
#[derive(Debug)]
struct Sent {
    source: SocketAddr,
    destination: SocketAddr,
    monotonic_ns: u64,
    icmp: (u8, u8),
}

/// Drops of datagrams that were captured here, or that were in this network namespace.
#[derive(Debug)]
pub struct DropTable {
    namespace: u32,
    table: HashMap<(SocketAddr, SocketAddr, String), Dropped>,
    waiting: VecDeque<KernelEvent>,
    /// The latest.
    sent: Option<Sent>,
    /// How many there were.
    pub total: u64,
    /// ICMP errors that the kernel sent.
    pub errors: u64,
    /// Those that the kernel had no room to tell.
    pub lost: u64,
    /// Those for which there was no room here.
    pub without_room: u64,
}

impl DropTable {
    pub(crate) fn new(namespace: u32) -> Self {
        Self {
            namespace,
            table: HashMap::new(),
            waiting: VecDeque::new(),
            sent: None,
            total: 0,
            errors: 0,
            lost: 0,
            without_room: 0,
        }
    }

    /// Take what came; `all`: also what is not old enough.
    pub(crate) fn read(&mut self, drops: &mut Drops, book: &Book, all: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let monotonic = monotonic_ns();
        let booted = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).saturating_sub(monotonic);
        // Not until there is none: they may come faster than they are read.
        self.waiting.extend(std::iter::from_fn(|| drops.next_event()).take(WAITING));
        while let Some(oldest) = self.waiting.front() {
            let young = monotonic.saturating_sub(oldest.monotonic_ns) < LATER_NS;
            if young && !all && self.waiting.len() < WAITING {
                break;
            }
            if let Some(oldest) = self.waiting.pop_front() {
                self.take(oldest, book, booted);
            }
        }
        self.lost = drops.lost();
    }

    fn take(&mut self, event: KernelEvent, book: &Book, booted_ns: u64) {
        let Some(Message::Datagram { source, destination, .. }) = dissect(LINK, &event.header) else {
            return;
        };
        // Somebody else's, unless its conversation was captured here: what a container sends, its host drops.
        let answer = book.is_answer(source, destination);
        if event.namespace != self.namespace && answer.is_none() {
            return;
        }
        let monotonic_ns = event.monotonic_ns;
        let (reason, function) = match event.fate {
            Fate::Dropped { reason, function } => (reason, function),
            Fate::IcmpSent { icmp_type, code } => {
                self.errors += 1;
                self.sent = Some(Sent { source, destination, monotonic_ns, icmp: (icmp_type, code) });
                return;
            }
        };
        self.total += 1;
        let key = (source, destination, reason.clone());
        if self.table.len() >= MOST && !self.table.contains_key(&key) {
            self.without_room += 1;
            return;
        }
        let rejected = self.sent.take_if(|sent| {
            let apart = monotonic_ns.saturating_sub(sent.monotonic_ns);
            (sent.source, sent.destination) == (source, destination) && apart < REJECTS_WITHIN_NS
        });
        let moment = Moment {
            order: book.messages(),
            time_ns: Some(booted_ns.saturating_add(monotonic_ns)),
            source: 0,
            number: self.total,
        };
        let entry = self.table.entry(key).or_insert_with(|| Dropped {
            source,
            destination,
            reason,
            function,
            count: 0,
            first: moment,
            last: moment,
            answers: answer == Some(true),
            icmp: None,
        });
        entry.count += 1;
        entry.last = moment;
        entry.icmp = entry.icmp.or(rejected.map(|sent| sent.icmp));
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = &Dropped> {
        self.table.values()
    }
}
