//! The conversation table: datagrams and ICMP errors, put together by who asked whom.
//!
//! Theory of operation. The first datagram between two endpoints makes its sender the client, unless the ports
//! say that it is an answer (`roles.rs`): a capture may begin in the middle. A datagram to a client from an
//! endpoint that it never asked is a *stray*: an answer, perhaps, of a server that the client did ask, from
//! another address on the same port or from another port of the same address. Which server that was is known
//! when the capture ends (`judge.rs`): one that never answered by itself. It is no stray if
//!
//! - the client then writes to that endpoint, so that it was a peer in its own right (TFTP works so, RFC 1350
//!   section 4);
//! - the client asked a group of hosts, any of which may answer for itself (SSDP, mDNS, DHCP); that the client
//!   refused such an answer is kept with whose it was;
//! - the client uses a service's port, to which anyone may write first: the server's own (NTP, SIP) or one from
//!   which no client sends (a DHCP server, in a capture that has no request to it);
//! - it was not refused, and more than one server may have sent it (peer-to-peer nodes ask many on one port), or
//!   other strangers write to the client too (it serves as well as it asks).
//!
//! What was captured on several links counts as often as one of them saw it: each source is counted for itself,
//! and the one that saw most of a flow stands for it, with its own first and last time, so that clocks which
//! differ do not mix.
//!
//! An ICMP error belongs to the conversation of the datagram that it quotes. One that quotes a datagram which
//! was never seen is about a stray where a stray would fit: where addresses are translated, the datagram and the
//! error about it are captured on different sides of the translation. Else it opens a conversation of which
//! there are no datagrams.
//!
//! Every packet of a capture comes by here, so there is one look-up for a datagram of a known conversation, and
//! what few conversations have is kept beside the table.

mod compact;
mod conversation;
mod judge;
mod latest;
mod merge;
mod roles;

pub use self::conversation::{Conversation, Errors, Flow, Moment};
pub use self::judge::Remarkable;
pub use self::latest::Latest;

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};

use self::compact::{Address, Chunks, Count, End, NOWHERE, Stamp, packed, unpacked};
use crate::message::{Checksum, Message, Stamped};

/// The most conversations that are kept, with the strays: less than 2 GB with what they may have beside.
const MOST: u32 = 1 << 22;
/// The most counts of further sources, and of spoiled datagrams, and the most kinds of errors, of all
/// conversations together.
const MOST_BESIDE: u32 = 1 << 22;
/// The most kinds of errors that are told apart in one conversation by one source.
const KINDS: usize = 16;
/// The most kinds of errors of one conversation, by all sources.
const KINDS_IN_ALL: usize = 64;
/// The most strays of one conversation.
const STRAYS: usize = 16;
/// So many of a client's conversations, the latest, are looked at when a stranger writes to it. A client that
/// asked more is a scanner or a resolver.
const REMEMBERED: usize = 64;

/// A message without its payload, so that those of several sources can wait for their turn.
#[derive(Debug)]
struct Heard {
    number: u64,
    time_ns: Option<u64>,
    what: What,
}

#[derive(Debug)]
enum What {
    Datagram {
        source: End,
        destination: End,
        length: u16,
        wrong: bool,
    },
    Lost {
        source: End,
        destination: End,
    },
    /// Few are, and so the others need not be as large.
    Error(Box<(Error, (End, End))>),
    Nothing,
}

/// What makes ICMP errors about one flow alike, and what is kept of the first.
#[derive(Clone, Copy, Debug)]
struct Error {
    sender: Address,
    receiver: Address,
    mtu: Option<u32>,
    icmp_type: u8,
    code: u8,
}

impl Error {
    /// Port unreachable, from the host itself.
    fn is_refusal_of(&self, destination: End) -> bool {
        let refusal = match unpacked(destination.address) {
            IpAddr::V4(_) => (3, 3),
            IpAddr::V6(_) => (1, 4),
        };
        self.sender == destination.address && (self.icmp_type, self.code) == refusal
    }
}

impl Heard {
    fn new(stamped: &Stamped<'_>) -> Self {
        let what = match stamped.message {
            Message::Datagram { source, destination, length, checksum, .. } => What::Datagram {
                source: source.into(),
                destination: destination.into(),
                length,
                wrong: checksum == Checksum::Wrong,
            },
            Message::FragmentLost { source, destination } => {
                What::Lost { source: source.into(), destination: destination.into() }
            }
            Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted: Some(quoted) } => {
                let (sender, receiver) = (packed(sender), packed(receiver));
                let quoted = (quoted.source.into(), quoted.destination.into());
                What::Error(Box::new((Error { sender, receiver, mtu, icmp_type, code }, quoted)))
            }
            Message::IcmpError { quoted: None, .. } => What::Nothing,
        };
        Self { number: stamped.number, time_ns: stamped.time_ns, what }
    }
}

/// Which flow of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Request,
    Reply,
}

/// A conversation in the table, 148 bytes. A stray is one, too, without requests: `server` is the stranger.
///
/// In this order: what each datagram needs comes first.
#[derive(Debug)]
#[repr(C)]
struct Record {
    client: End,
    server: End,
    requests: Count,
    replies: Count,
    /// What further sources counted, the latest first: place in `Book::further`.
    further: u32,
    /// What ICMP said, the latest kind first: place in `Book::errors`.
    errors: u32,
    /// The client's conversation before this one.
    earlier: u32,
    /// The client never wrote to `server`.
    stray: bool,
}

impl Record {
    /// On which way of this conversation a datagram is, if it is one of it.
    fn way(&self, source: End, destination: End) -> Option<Way> {
        if (self.client, self.server) == (source, destination) {
            Some(Way::Request)
        } else if (self.client, self.server) == (destination, source) {
            Some(Way::Reply)
        } else {
            None
        }
    }

    fn flow(&self, way: Way) -> Count {
        match way {
            Way::Request => self.requests,
            Way::Reply => self.replies,
        }
    }
}

/// What one more source counted of a flow.
#[derive(Debug)]
struct Further {
    count: Count,
    next: u32,
    way: Way,
}

/// ICMP errors of one kind, from one source.
#[derive(Debug)]
struct Kind {
    error: Error,
    count: Count,
    next: u32,
    way: Way,
}

impl Kind {
    /// One flow, one sender and one kind; of a group, the answers of one host, to whom the error goes.
    fn is_like(&self, way: Way, error: Error, is_group: bool) -> bool {
        self.way == way
            && self.error.sender == error.sender
            && (self.error.icmp_type, self.error.code) == (error.icmp_type, error.code)
            && (!is_group || self.error.receiver == error.receiver)
    }
}

/// Datagrams with a wrong checksum, and those of which a fragment was lost.
#[derive(Clone, Copy, Debug, Default)]
struct Spoiled {
    bad_checksums: u32,
    lost_fragments: u32,
}

/// Puts the messages of all sources together. Memory grows with the conversations, not with the messages: about
/// 180 bytes for each, 56 more for each further source and direction, about 90 for each kind of error.
#[derive(Debug)]
pub struct Book {
    records: Chunks<Record>,
    /// Places of records by both ends, whichever is the client.
    by_ends: HashTable<u32>,
    /// Place of the latest conversation of each client.
    by_client: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Where the latest datagram was counted.
    latest: u32,
    further: Chunks<Further>,
    errors: Chunks<Kind>,
    spoiled: HashMap<(u32, Way, u16), Spoiled>,
    /// Clients whose conversations are remarkable, whatever is in them.
    kept: HashSet<End>,
    /// Messages so far.
    order: u64,
    /// Messages of conversations for which there was no room.
    without_room: u64,
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

impl Book {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            records: Chunks::new(),
            by_ends: HashTable::new(),
            by_client: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            latest: NOWHERE,
            further: Chunks::new(),
            errors: Chunks::new(),
            spoiled: HashMap::new(),
            kept: HashSet::new(),
            order: 0,
            without_room: 0,
        }
    }

    /// Take every conversation of these clients for remarkable.
    pub fn keep(&mut self, clients: impl IntoIterator<Item = SocketAddr>) {
        self.kept.extend(clients.into_iter().map(End::from));
    }

    /// How many conversations there are, with the strays.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next message. `source` is the index of where it comes from.
    pub fn take(&mut self, source: u16, message: &Stamped<'_>) {
        self.hear(source, &Heard::new(message));
    }

    fn hear(&mut self, source: u16, heard: &Heard) {
        let stamp = Stamp::new(self.order, heard.time_ns, heard.number);
        self.order += 1;
        match heard.what {
            What::Datagram { source: from, destination, length, wrong } => {
                let counted = self.datagram(from, destination, Count::one(source, stamp, length));
                if let (Some((place, way)), true) = (counted, wrong) {
                    self.spoil(place, way, source, |spoiled| &mut spoiled.bad_checksums);
                }
            }
            What::Lost { source: from, destination } => {
                if let Some((place, way)) = self.datagram(from, destination, Count::one(source, stamp, 0)) {
                    self.spoil(place, way, source, |spoiled| &mut spoiled.lost_fragments);
                }
            }
            What::Error(ref error) => self.error(error.0, error.1, Count::one(source, stamp, 0)),
            What::Nothing => {}
        }
    }

    /// Whether a datagram between these two is an answer; `None`: none was seen between them.
    #[must_use]
    pub fn is_answer(&self, source: SocketAddr, destination: SocketAddr) -> Option<bool> {
        let (_, way) = self.find(source.into(), destination.into())?;
        Some(way == Way::Reply)
    }

    fn spoil(&mut self, place: u32, way: Way, source: u16, count: fn(&mut Spoiled) -> &mut u32) {
        let key = (place, way, source);
        if self.spoiled.len() < MOST_BESIDE as usize || self.spoiled.contains_key(&key) {
            let count = count(self.spoiled.entry(key).or_default());
            *count = count.saturating_add(1);
        }
    }

    /// Counts a datagram; returns where. `None`: nowhere, since it answers for a group, or there is no room.
    fn datagram(&mut self, source: End, destination: End, one: Count) -> Option<(u32, Way)> {
        let (place, way) = match self.find(source, destination) {
            Some(known) => known,
            None => match self.origin(source, destination) {
                Origin::Group(asked) => (asked, Way::Reply),
                Origin::Server => self.open(destination, source, true).map(|stray| (stray, Way::Reply))?,
                Origin::Unknown => self.open_by_ports(source, destination)?,
            },
        };
        if way == Way::Request && self.records[place].stray {
            // A peer in its own right.
            self.records[place].stray = false;
            self.link(place);
        }
        self.count(place, way, one);
        Some((place, way))
    }

    fn error(&mut self, error: Error, (source, destination): (End, End), one: Count) {
        let known = match self.find(source, destination) {
            Some(known) => Some(known),
            None => match self.origin(source, destination) {
                Origin::Group(asked) => error.is_refusal_of(destination).then_some((asked, Way::Reply)),
                Origin::Server => self.open(destination, source, true).map(|stray| (stray, Way::Reply)),
                Origin::Unknown => self.open_by_ports(source, destination),
            },
        };
        if let Some((place, way)) = known {
            self.add_error(place, way, error, one);
        }
    }

    /// The conversation that a datagram belongs to, and its way there.
    fn find(&self, source: End, destination: End) -> Option<(u32, Way)> {
        // Often it is the latest one again: a reply follows its request.
        let latest = self.records.get(self.latest).and_then(|record| record.way(source, destination));
        if let Some(way) = latest {
            return Some((self.latest, way));
        }
        let mut way = None;
        let place = self.by_ends.find(self.hash_ends(source, destination), |place| {
            way = self.records[*place].way(source, destination);
            way.is_some()
        })?;
        Some((*place, way?))
    }

    fn hash_ends(&self, one: End, other: End) -> u64 {
        hash_ends(&self.hasher, one, other)
    }

    /// The conversations of a client, the latest first.
    fn asked_by(&self, client: End) -> impl Iterator<Item = (u32, &Record)> {
        let records = &self.records;
        let latest =
            self.by_client.find(self.hasher.hash_one(client), |place| records[*place].client == client);
        let mut next = latest.copied().unwrap_or(NOWHERE);
        std::iter::from_fn(move || {
            let (place, record) = (next, records.get(next)?);
            next = record.earlier;
            Some((place, record))
        })
    }

    /// Whom the client asked that may now answer as `source`.
    fn origin(&self, source: End, client: End) -> Origin {
        let mut origin = Origin::Unknown;
        for (place, record) in self.asked_by(client).take(REMEMBERED) {
            if roles::may_answer_for(source, client, record.server) {
                if record.server.is_group() {
                    return Origin::Group(place);
                }
                origin = Origin::Server;
            }
        }
        origin
    }

    fn open_by_ports(&mut self, source: End, destination: End) -> Option<(u32, Way)> {
        if roles::is_answer(source, destination) {
            self.open(destination, source, false).map(|place| (place, Way::Reply))
        } else {
            self.open(source, destination, false).map(|place| (place, Way::Request))
        }
    }

    /// A new conversation. `None`: there is no room for one more.
    fn open(&mut self, client: End, server: End, stray: bool) -> Option<u32> {
        let record = Record {
            client,
            server,
            requests: Count::none(),
            replies: Count::none(),
            further: NOWHERE,
            errors: NOWHERE,
            earlier: NOWHERE,
            stray,
        };
        let Some(place) = self.records.push(record, MOST) else {
            self.without_room += 1;
            return None;
        };
        let (records, hasher) = (&self.records, &self.hasher);
        self.by_ends.insert_unique(hash_ends(hasher, client, server), place, |place| {
            let record = &records[*place];
            hash_ends(hasher, record.client, record.server)
        });
        if !stray {
            self.link(place);
        }
        Some(place)
    }

    /// Makes a conversation its client's latest.
    fn link(&mut self, place: u32) {
        let (records, hasher) = (&self.records, &self.hasher);
        let client = records[place].client;
        let entry = self.by_client.entry(
            hasher.hash_one(client),
            |other| records[*other].client == client,
            |other| hasher.hash_one(records[*other].client),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(mut latest) => {
                let earlier = std::mem::replace(latest.get_mut(), place);
                self.records[place].earlier = earlier;
            }
            hashbrown::hash_table::Entry::Vacant(none) => {
                none.insert(place);
            }
        }
    }

    fn count(&mut self, place: u32, way: Way, one: Count) {
        self.latest = place;
        let record = &mut self.records[place];
        let flow = match way {
            Way::Request => &mut record.requests,
            Way::Reply => &mut record.replies,
        };
        if flow.times == 0 {
            *flow = one;
            return;
        }
        if flow.source == one.source {
            flow.add(one.first, one.largest);
            return;
        }
        let mut next = record.further;
        while next != NOWHERE {
            let further = &mut self.further[next];
            if further.way == way && further.count.source == one.source {
                further.count.add(one.first, one.largest);
                return;
            }
            next = further.next;
        }
        let further = Further { count: one, next: record.further, way };
        if let Some(place) = self.further.push(further, MOST_BESIDE) {
            record.further = place;
        }
    }

    fn add_error(&mut self, place: u32, way: Way, error: Error, one: Count) {
        let record = &mut self.records[place];
        let is_group = record.server.is_group();
        let (mut next, mut kinds, mut of_source) = (record.errors, 0, 0);
        while next != NOWHERE {
            let kind = &mut self.errors[next];
            if kind.count.source == one.source && kind.is_like(way, error, is_group) {
                kind.count.add(one.first, 0);
                return;
            }
            kinds += 1;
            of_source += usize::from(kind.count.source == one.source);
            next = kind.next;
        }
        if kinds < KINDS_IN_ALL && of_source < KINDS {
            let kind = Kind { error, count: one, next: record.errors, way };
            if let Some(place) = self.errors.push(kind, MOST_BESIDE) {
                record.errors = place;
            }
        }
    }
}

/// The same whichever end comes first.
fn hash_ends(hasher: &DefaultHashBuilder, one: End, other: End) -> u64 {
    hasher.hash_one(one).wrapping_add(hasher.hash_one(other))
}

/// What a datagram from a stranger to a client may be an answer to.
enum Origin {
    /// To what a group was asked, in this conversation.
    Group(u32),
    /// To what a server was asked.
    Server,
    /// To nothing that was seen.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_small() {
        assert_eq!(size_of::<Record>(), 148);
        assert!(size_of::<Further>() <= 56);
        assert!(size_of::<Kind>() <= 100);
    }
}
