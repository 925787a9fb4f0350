//! What the table tells of a conversation.

use std::net::{IpAddr, SocketAddr};

/// When and where something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Running number over the merged messages of all sources, from 0.
    pub order: u64,
    /// Nanoseconds since the epoch; `None` without a date.
    pub time_ns: Option<u64>,
    /// Index of the source.
    pub source: u16,
    /// Number of the packet or line in it, from 1.
    pub number: u64,
}

/// Datagrams of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Moment,
    /// The last.
    pub last: Moment,
    /// The longest payload in bytes.
    pub largest: u16,
    /// Those whose checksum is wrong.
    pub bad_checksums: u32,
    /// Those of which a fragment never came.
    pub lost_fragments: u32,
}

/// ICMP errors of one sender and kind about one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errors {
    /// Who sent them.
    pub sender: IpAddr,
    /// To whom the first went.
    pub receiver: IpAddr,
    /// ICMP or `ICMPv6` type.
    pub icmp_type: u8,
    /// The code within the type.
    pub code: u8,
    /// The next hop's, in bytes, as the first names it.
    pub mtu: Option<u32>,
    /// Who sent the datagrams in error.
    pub quoted_source: SocketAddr,
    /// To whom.
    pub quoted_destination: SocketAddr,
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Moment,
    /// The last.
    pub last: Moment,
}

/// What one client and one server that it asked sent each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Who asked.
    pub client: SocketAddr,
    /// Who was asked.
    pub server: SocketAddr,
    /// From the client to the server.
    pub requests: Option<Flow>,
    /// From the server to the client.
    pub replies: Option<Flow>,
    /// What may be answers of this server from other endpoints: it sent no replies. Those of a group's members
    /// are replies.
    pub strays: Vec<(SocketAddr, Flow)>,
    /// What ICMP said about any of it, in the order of the first of each kind.
    pub errors: Vec<Errors>,
    /// Where there are errors: what the server answered to the other client that it answered first, and to the
    /// one that it answered last, or last but one where that is the first.
    pub also_answered: Vec<(SocketAddr, Flow)>,
    /// The server answered another client.
    pub answers_others: bool,
    /// Datagrams to the client's address were captured.
    pub client_hears: bool,
}
