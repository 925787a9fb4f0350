//! What a packet says about UDP.

use std::net::{IpAddr, SocketAddr};

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
        /// What its checksum says.
        checksum: Checksum,
    },
    /// A datagram that never became whole: of its fragments the first was seen, but not all.
    FragmentLost {
        /// Who sent it.
        source: SocketAddr,
        /// To whom.
        destination: SocketAddr,
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

/// A UDP checksum, compared with what was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is right, or the sender computed none (zero, IPv4), or it is the sum of the pseudo-header alone, which
    /// the network card was to complete.
    Fine,
    /// It is wrong.
    Wrong,
    /// Not all the bytes that it covers were captured, or it is for other addresses, those of a source route.
    Unknown,
}

/// A message, and where in its source it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped<'a> {
    /// Number of the packet or of the line, from 1.
    pub number: u64,
    /// Nanoseconds since the epoch; without a date, since an arbitrary midnight ([`Clock::TimeOfDay`]).
    pub time_ns: Option<u64>,
    /// What it says.
    pub message: Message<'a>,
}

/// What the times of a source mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Since the epoch: several such sources can be merged.
    Epoch,
    /// Nobody knows of which day, or since when.
    TimeOfDay,
}

/// How much of a source was understood, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets, or the lines of text that were taken for one.
    pub packets: u64,
    /// UDP datagrams among them; one that came in fragments counts once, when it is whole.
    pub datagrams: u64,
    /// ICMP errors that quote UDP, whether or not enough of it to know its ports.
    pub icmp_errors: u64,
    /// What could not be decoded: why, and how often. At most [`Tally::REASONS`] different ones.
    pub unread: std::collections::BTreeMap<String, u64>,
    /// A sentence for each damaged place, at most [`Tally::PLACES`]; the last then counts the others.
    pub damage: Vec<String>,
    /// How many damaged places there are.
    pub damaged_places: u64,
    /// The first and the last time, as in [`Stamped::time_ns`], of any packet.
    pub first_ns: Option<u64>,
    /// See `first_ns`.
    pub last_ns: Option<u64>,
}

impl Tally {
    /// The most reasons that are told apart in `unread`.
    pub const REASONS: usize = 64;
    /// The most sentences in `damage`.
    pub const PLACES: usize = 10;

    /// Counts something that could not be decoded.
    pub fn add_unread(&mut self, reason: &str) {
        if let Some(count) = self.unread.get_mut(reason) {
            *count += 1;
        } else if self.unread.len() < Self::REASONS - 1 {
            self.unread.insert(reason.to_owned(), 1);
        } else {
            *self.unread.entry("other reasons".to_owned()).or_default() += 1;
        }
    }

    /// Tells of a damaged place.
    pub fn add_damage(&mut self, place: &str) {
        self.damaged_places += 1;
        if self.damage.len() < Self::PLACES {
            self.damage.push(place.to_owned());
        } else if let Some(last) = self.damage.last_mut() {
            *last = format!("{} more damaged places", self.damaged_places + 1 - Self::PLACES as u64);
        }
    }

    /// Takes the time of a packet into `first_ns` and `last_ns`.
    pub fn add_time(&mut self, time_ns: u64) {
        self.first_ns = Some(self.first_ns.map_or(time_ns, |first| first.min(time_ns)));
        self.last_ns = Some(self.last_ns.map_or(time_ns, |last| last.max(time_ns)));
    }
}

/// A source of messages: a capture, or text about one.
pub trait Messages {
    /// The next message; `None` at the end. Damage is skipped where reading can go on behind it, and counted.
    fn next_message(&mut self) -> Option<Stamped<'_>>;

    /// How much was understood of what was read so far.
    fn tally(&self) -> &Tally;

    /// What the times mean.
    fn clock(&self) -> Clock;

    /// The name behind each address that only stands for one.
    fn names(&self) -> Vec<(IpAddr, String)> {
        Vec::new()
    }
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
