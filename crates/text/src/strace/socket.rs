//! One socket, and the calls on it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::control::{Header, header};
use super::facts::{CallKind, Calls, Key, Moment, TracedSocket};
use super::names::{errno_name, option_name};
use super::sockets::Done;
use super::threads::Threads;
use super::value::{Sockaddr, has_flag, inside, is, items, number, sockaddr, string};

/// The most different calls of one kind on one socket.
const CALLS_OF_A_KIND: usize = 128;
/// The most options of one socket.
const OPTIONS: usize = 32;
/// The most messages of one call: `UIO_MAXIOV`.
const MESSAGES: usize = 1024;

/// Failures that say nothing of the network.
const NO_NEWS: [&[u8]; 10] = [
    b"EAGAIN",
    b"EBADF",
    b"EFAULT",
    b"EINPROGRESS",
    b"EINTR",
    b"EISCONN",
    b"ENOBUFS",
    b"ENOMEM",
    b"ENOTSOCK",
    b"EWOULDBLOCK",
];

/// Of calls that waited in vain.
const WAITED: [&str; 2] = ["EAGAIN", "ETIMEDOUT"];

pub(super) struct Socket {
    facts: TracedSocket,
    /// It is known to be UDP's.
    udp: bool,
    connected: Option<SocketAddr>,
    /// Calls that are alike, in `facts.calls`.
    index: HashMap<Key, usize>,
    of_a_kind: [usize; 6],
    /// How many datagrams were sent since an error was told.
    sent_since: u64,
    /// Datagrams that were looked at and wait to be taken.
    peeked: u64,
    used: bool,
}

/// What a call that takes or sends datagrams tells of one of them.
#[derive(Default)]
struct Message {
    peer: Option<SocketAddr>,
    header: Header,
}

impl Socket {
    /// `whole`: socket(2) just made it, for UDP. Else nobody knows yet whether it is UDP's.
    pub(super) fn new(descriptor: i64, family: Option<u8>, whole: bool, first: Moment) -> Self {
        let facts = TracedSocket {
            process: None,
            program: String::new(),
            descriptor,
            family,
            first,
            whole,
            bound: None,
            options: BTreeMap::new(),
            calls: Vec::new(),
            unlisted: 0,
        };
        Self {
            facts,
            udp: whole,
            connected: None,
            index: HashMap::new(),
            of_a_kind: [0; 6],
            sent_since: 0,
            peeked: 0,
            used: false,
        }
    }

    pub(super) fn into_facts(self) -> Option<TracedSocket> {
        self.udp.then_some(self.facts)
    }

    pub(super) fn belongs_to(&mut self, thread: u32, threads: &Threads) {
        let (process, program) = threads.owner(thread);
        (self.facts.process, self.facts.program) = (process, program.as_ref().to_owned());
    }

    /// Who first uses it owns it, rather than a parent that only made it.
    pub(super) fn used_by(&mut self, thread: u32, threads: &Threads) {
        if !self.used {
            self.used = true;
            self.belongs_to(thread, threads);
        }
    }

    /// The ends that -yy tells: `0.0.0.0:53`, `127.0.0.1:1->127.0.0.1:53`.
    pub(super) fn has_ends(&mut self, told: &[u8]) {
        self.udp = true;
        let Ok(told) = std::str::from_utf8(told) else { return };
        match told.split_once("->") {
            Some((_, peer)) => self.connected = peer.parse().ok().map(canonical),
            None => self.facts.bound = told.parse().ok(),
        }
    }

    /// poll(2) or select(2) waited for it in vain.
    pub(super) fn waited(&mut self, done: Done<'_>, room: &mut usize) {
        let message = Message { header: plain(None), ..Message::default() };
        self.add(CallKind::Receive, done, Some("ETIMEDOUT".to_owned()), message, room);
    }

    /// Takes a call into account. Returns how many datagrams it took or sent.
    pub(super) fn apply(&mut self, done: Done<'_>, room: &mut usize) -> u64 {
        let mut arguments = done.arguments().skip(1);
        let mut next = || arguments.next().unwrap_or_default();
        match done.name {
            "bind" => self.bind(done, next(), room),
            "connect" => self.connect(done, next(), room),
            "getsockname" => {
                if let (true, Some(Sockaddr::Inet(local))) = (done.succeeded(), sockaddr(next())) {
                    self.is_called(local);
                }
            }
            "setsockopt" if done.succeeded() => self.set_option(next(), next(), next()),
            "getsockopt" if done.succeeded() => {
                let (level, option, value) = (next(), next(), inside(next()).unwrap_or_default());
                if is(level, &[b"SOL_SOCKET"], 1) {
                    self.option(done, option, value, room);
                }
            }
            "recvfrom" | "sendto" => {
                let (data, _, flags, peer) = (next(), next(), next(), next());
                self.udp |= done.name == "sendto" && self.asks_a_resolver(done, data);
                return self.exchange(done, flags, vec![plain(sockaddr(peer))], 1, room);
            }
            "recv" | "send" => {
                let (data, _, flags) = (next(), next(), next());
                self.udp |= done.name == "send" && self.asks_a_resolver(done, data);
                return self.exchange(done, flags, vec![plain(None)], 1, room);
            }
            "read" | "readv" | "write" | "writev" => {
                return self.exchange(done, b"0", vec![plain(None)], 1, room);
            }
            "recvmsg" | "sendmsg" => {
                let (message, flags) = (next(), next());
                let headers = self.header(done, message).into_iter().collect();
                return self.exchange(done, flags, headers, 1, room);
            }
            "recvmmsg" | "sendmmsg" => {
                let (vector, _, flags) = (next(), next(), next());
                let count = done.call.result.and_then(|result| usize::try_from(result).ok());
                let count = count.unwrap_or(1).min(MESSAGES);
                // Each `struct mmsghdr` begins with its `struct msghdr`.
                let headers = items(inside(vector).unwrap_or_default())
                    .take(count)
                    .filter_map(|item| items(inside(item.value)?).next())
                    .filter_map(|first| self.header(done, first.value))
                    .collect();
                return self.exchange(done, flags, headers, count as u64, room);
            }
            _ => {}
        }
        0
    }

    /// DNS' query, whole (RFC 1035, section 4.1.1), to port 53: on a stream its length would stand before it.
    fn asks_a_resolver(&self, done: Done<'_>, data: &[u8]) -> bool {
        let Some(&[id, low, flags, _, 0, 1, ..]) = string(data, 6).as_deref() else { return false };
        let framed = Some(i64::from(u16::from_be_bytes([id, low])) + 2) == done.call.result;
        self.connected.is_some_and(|peer| peer.port() == 53) && flags & 0xf8 == 0 && !framed
    }

    fn bind(&mut self, done: Done<'_>, address: &[u8], room: &mut usize) {
        if let Some(Sockaddr::Inet(address)) = sockaddr(address) {
            if done.succeeded() {
                self.facts.bound = Some(address);
                self.facts.family.get_or_insert(if address.is_ipv4() { 4 } else { 6 });
            }
            self.record(CallKind::Bind, done, Message::default(), room);
        }
    }

    fn connect(&mut self, done: Done<'_>, address: &[u8], room: &mut usize) {
        let peer = match sockaddr(address) {
            Some(Sockaddr::Inet(peer)) => Some(canonical(peer)),
            Some(Sockaddr::Unspecified) => None,
            _ => return,
        };
        if done.succeeded() {
            self.connected = peer;
        }
        self.record(CallKind::Connect, done, Message { peer, ..Message::default() }, room);
    }

    /// What getsockname(2) says. The address of a connected socket is not the one that was bound.
    fn is_called(&mut self, local: SocketAddr) {
        match &mut self.facts.bound {
            Some(bound) if bound.port() == 0 => bound.set_port(local.port()),
            None if !self.facts.whole && self.connected.is_none() && local.port() != 0 => {
                self.facts.bound = Some(local);
            }
            _ => {}
        }
    }

    fn set_option(&mut self, level: &[u8], option: &[u8], value: &[u8]) {
        let Some(name) = option_name(level, option).filter(|name| name.len() <= 40) else { return };
        // What has one of these is no stream.
        self.udp |= matches!(name, "SO_BROADCAST" | "IP_PKTINFO" | "IPV6_RECVPKTINFO" | "IPV6_2292PKTINFO");
        let value = match value.first() {
            Some(b'[') => inside(value).and_then(number).unwrap_or(1),
            Some(b'"') => i64::from(string(value, 1).is_some_and(|name| !matches!(name[..], [] | [0]))),
            Some(b'{') => 1,
            _ => 0,
        };
        if self.facts.options.len() < OPTIONS || self.facts.options.contains_key(name) {
            self.facts.options.insert(name.to_owned(), value);
        }
    }

    /// An option of `SOL_SOCKET` that was read.
    fn option(&mut self, done: Done<'_>, option: &[u8], value: &[u8], room: &mut usize) {
        if is(option, &[b"SO_PROTOCOL"], 38) {
            self.udp |= is(value, &[b"IPPROTO_UDP"], 17);
        } else if is(option, &[b"SO_ERROR"], 4) {
            if let Some(errno) = errno_name(value) {
                let message = Message { peer: self.connected, ..Message::default() };
                self.add(CallKind::Error, done, Some(errno), message, room);
            }
        }
    }

    fn header(&self, done: Done<'_>, value: &[u8]) -> Option<Header> {
        // In `struct in_pktinfo` the destination of what came, and the source that was chosen (ip(7)).
        let member: &[u8] = if done.name.starts_with("send") { b"ipi_spec_dst" } else { b"ipi_addr" };
        header(value, member, self.facts.family == Some(4))
    }

    /// Takes into account what a call took or sent. `count` may be more than the log shows `headers` of.
    fn exchange(
        &mut self,
        done: Done<'_>,
        flags: &[u8],
        headers: Vec<Header>,
        count: u64,
        room: &mut usize,
    ) -> u64 {
        let sends = done.name.starts_with("send") || done.name.starts_with("write");
        let kind = match () {
            () if sends => CallKind::Send,
            () if has_flag(flags, b"MSG_ERRQUEUE", 0x2000) => CallKind::Error,
            () if has_flag(flags, b"MSG_PEEK", 2) => CallKind::Peek,
            () => CallKind::Receive,
        };
        let stream = sends && has_flag(flags, b"MSG_FASTOPEN", 0x2000_0000);
        for header in headers {
            let named = match header.name {
                Some(Sockaddr::Inet(peer)) => Some(peer),
                _ => None,
            };
            // Streams tell no addresses, raw sockets no ports.
            if let Some(peer) = named.filter(|peer| peer.port() != 0 && !stream) {
                self.udp = true;
                self.facts.family.get_or_insert(if peer.is_ipv4() { 4 } else { 6 });
            }
            self.record(kind, done, Message { peer: named.map(canonical).or(self.connected), header }, room);
        }
        if !self.udp || done.call.result.is_none_or(|result| result < 0) {
            return 0;
        }
        match kind {
            CallKind::Send => count,
            CallKind::Peek => count.saturating_sub(std::mem::replace(&mut self.peeked, count)),
            CallKind::Receive => count.saturating_sub(std::mem::take(&mut self.peeked)),
            _ => 0,
        }
    }

    /// Writes down a call that succeeded, or failed in a way that says something of the network.
    fn record(&mut self, kind: CallKind, done: Done<'_>, message: Message, room: &mut usize) {
        let errno = match done.call.errno() {
            // Nothing came.
            Some(b"EAGAIN" | b"EWOULDBLOCK") if kind == CallKind::Receive => Some("EAGAIN".to_owned()),
            Some(errno) if NO_NEWS.contains(&errno) => return,
            Some(errno) => errno_name(errno),
            None if done.call.result.is_none_or(|result| result < 0) => return,
            None => message.header.error.as_ref().map(|error| error.errno.clone()),
        };
        self.add(kind, done, errno, message, room);
    }

    fn add(
        &mut self,
        kind: CallKind,
        done: Done<'_>,
        errno: Option<String>,
        message: Message,
        room: &mut usize,
    ) {
        let failed = errno.is_some();
        let told = errno.as_deref().is_some_and(|errno| !WAITED.contains(&errno));
        let carries = matches!(kind, CallKind::Receive | CallKind::Peek | CallKind::Send);
        let Message { peer, header: Header { pktinfo, local, error, .. } } = message;
        let key = Key {
            kind,
            name: done.name,
            peer,
            pktinfo: pktinfo.filter(|_| carries),
            local,
            errno,
            icmp: error.as_ref().and_then(|error| error.icmp),
            offender: error.and_then(|error| error.offender),
        };
        if let Some(calls) = self.index.get(&key).and_then(|&index| self.facts.calls.get_mut(index)) {
            calls.count += 1;
            calls.last = done.at;
        } else if self.of_a_kind[kind as usize] < CALLS_OF_A_KIND && *room > 0 {
            self.of_a_kind[kind as usize] += 1;
            *room -= 1;
            self.index.insert(key.clone(), self.facts.calls.len());
            let candidates = if told { self.sent_since } else { 0 };
            let first = done.at;
            self.facts.calls.push(Calls { key, count: 1, first, last: first, candidates });
        } else {
            self.facts.unlisted += 1;
        }
        if kind == CallKind::Send && !failed {
            self.sent_since += 1;
        } else if told {
            self.sent_since = 0;
        }
    }
}

/// A message without control messages.
fn plain(name: Option<Sockaddr>) -> Header {
    Header { name, pktinfo: Some(false), ..Header::default() }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
