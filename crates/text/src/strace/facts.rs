//! What a log tells.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Where, and when, a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Number of the line, from 1.
    pub line: u64,
    /// Nanoseconds since the epoch, with -ttt.
    pub time_ns: Option<u64>,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// bind(2).
    Bind,
    /// connect(2).
    Connect,
    /// Took a datagram, or would have.
    Receive,
    /// Looked at a datagram: `MSG_PEEK`.
    Peek,
    /// Sent one.
    Send,
    /// Read an error: `MSG_ERRQUEUE` or `SO_ERROR`.
    Error,
}

/// In what calls are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What they are for.
    pub kind: CallKind,
    /// The system call.
    pub name: &'static str,
    /// Whom a datagram came from or went to; IPv4-mapped addresses as IPv4.
    pub peer: Option<SocketAddr>,
    /// Whether a control message held a local address, `IP_PKTINFO` or `IPV6_PKTINFO`; `None` where the log does
    /// not show the control messages.
    pub pktinfo: Option<bool>,
    /// That address, where it is shown: the one that was asked, or the source that was chosen.
    pub local: Option<IpAddr>,
    /// The error with which they failed, or which they read.
    pub errno: Option<String>,
    /// Type and code of the ICMP message that a queued error came with.
    pub icmp: Option<(u8, u8)>,
    /// Who sent that message.
    pub offender: Option<IpAddr>,
}

/// Calls on one socket that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// In what they are alike.
    pub key: Key,
    /// How many there were.
    pub count: u64,
    /// The first one.
    pub first: Moment,
    /// The last one.
    pub last: Moment,
    /// For errors: how many datagrams were sent before the first of them, since the error before it.
    pub candidates: u64,
}

/// A UDP socket, from socket(2) or the first call that shows it, on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedSocket {
    /// Whose it is, as a thread group; `None` where the log does not tell.
    pub process: Option<u32>,
    /// The program's name, where -Y or execve(2) tells it.
    pub program: String,
    /// Its descriptor when it was first seen.
    pub descriptor: i64,
    /// 4 or 6.
    pub family: Option<u8>,
    /// The first call that shows it.
    pub first: Moment,
    /// That call is socket(2), so that nothing went before.
    pub whole: bool,
    /// What bind(2) named; a port that the kernel chose as soon as a call tells it.
    pub bound: Option<SocketAddr>,
    /// What setsockopt(2) set last.
    pub options: BTreeMap<String, i64>,
    /// In the order of the first of each kind.
    pub calls: Vec<Calls>,
    /// Calls for which there was no room.
    pub unlisted: u64,
}
