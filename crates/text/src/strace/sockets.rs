//! Which descriptor is which socket, and what each system call does to them.

use super::facts::{Moment, TracedSocket};
use super::line::Call;
use super::socket::Socket;
use super::threads::{Sharing, Slot, Threads};
use super::value::{annotation, has_flag, inside, is, items, number, string, word};

/// The most sockets of one log.
const SOCKETS: usize = 50_000;
/// The most different calls of one log.
const CALLS: usize = 250_000;
/// The most descriptors that one call waits for.
const SET: usize = 1024;
const CLOEXEC: i64 = 0o200_0000;

/// A call that returned, and where and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done<'a> {
    pub(super) name: &'static str,
    pub(super) call: &'a Call<'a>,
    pub(super) at: Moment,
    pub(super) thread: u32,
}

impl<'a> Done<'a> {
    pub(super) fn arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        // What is missing is empty.
        items(self.call.arguments).map(|item| item.value).chain(std::iter::repeat(&b""[..]))
    }

    pub(super) fn succeeded(&self) -> bool {
        self.call.result == Some(0)
    }

    /// The descriptor that it returned.
    fn descriptor(&self) -> Option<i64> {
        self.call.result.filter(|&result| result >= 0)
    }
}

/// Sockets, as far as the lines so far show them.
pub(super) struct Sockets {
    all: Vec<Socket>,
    /// How many more different calls there is room for.
    room: usize,
    /// Datagrams that calls took or sent.
    pub(super) datagrams: u64,
    /// Lines of calls that took or sent any.
    pub(super) carrying: u64,
    /// Sockets for which there was no room.
    pub(super) unlisted: u64,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { all: Vec::new(), room: CALLS, datagrams: 0, carrying: 0, unlisted: 0 }
    }
}

impl Sockets {
    /// The UDP sockets, in the order in which they were first seen.
    /// `unnamed`: whose they are if the lines did not tell.
    pub(super) fn into_facts(self, unnamed: Option<u32>) -> Vec<TracedSocket> {
        let whose = |facts: TracedSocket| TracedSocket { process: facts.process.or(unnamed), ..facts };
        self.all.into_iter().filter_map(Socket::into_facts).map(whose).collect()
    }

    /// Takes a call that returned into account.
    pub(super) fn apply(&mut self, done: Done<'_>, threads: &mut Threads) {
        let Done { name, call, thread, .. } = done;
        let mut arguments = done.arguments();
        match name {
            "clone" | "fork" | "vfork" => {
                if let Some(child) = call.child() {
                    let sharing =
                        if name == "clone" { Sharing::of(call.arguments) } else { Sharing::default() };
                    threads.child(thread, child, sharing);
                }
            }
            "execve" | "execveat" if done.succeeded() => {
                let path = string(call.arguments, 4096).unwrap_or_default();
                threads.call_it(thread, path.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
                threads.unshare(thread);
                threads.close(thread, |_, slot| slot.closes);
            }
            "socket" => {
                if let Some(descriptor) = done.descriptor() {
                    let slot = self.made(&mut arguments, descriptor, done, threads);
                    threads.set(thread, descriptor, slot);
                }
            }
            "close_range" => {
                let mut next = || arguments.next().and_then(number);
                if let (true, Some(first), Some(last)) = (done.succeeded(), next(), next()) {
                    let last = if last < 0 { i64::MAX } else { last };
                    threads.close(thread, |descriptor, _| (first..=last).contains(&descriptor));
                }
            }
            "poll" | "select" if done.succeeded() => self.waited(done, arguments, threads),
            "execve" | "execveat" | "poll" | "select" => {}
            _ => self.apply_to_descriptor(done, arguments, threads),
        }
    }

    /// poll(2) with its array, or select(2) with the set of those that it reads. Who merely looks waits for
    /// nothing.
    fn waited<'a>(
        &mut self,
        done: Done<'_>,
        mut arguments: impl Iterator<Item = &'a [u8]>,
        threads: &Threads,
    ) {
        let before = usize::from(done.name == "select");
        let set = arguments.nth(before).and_then(inside).unwrap_or_default();
        if !arguments.nth(before + 1).is_some_and(is_long) {
            return;
        }
        // A set of select(2) has blanks between its numbers, an array commas.
        for part in set.split(|&byte| byte == b' ').take(SET) {
            let part = part.trim_ascii_start();
            let descriptor = part.strip_prefix(b"{fd=").unwrap_or(part);
            let slot = number(descriptor).and_then(|descriptor| threads.get(done.thread, descriptor));
            if let Some(socket) = slot.and_then(|slot| self.all.get_mut(slot.socket?)) {
                socket.waited(done, &mut self.room);
            }
        }
    }

    fn apply_to_descriptor<'a>(
        &mut self,
        done: Done<'_>,
        mut arguments: impl Iterator<Item = &'a [u8]>,
        threads: &mut Threads,
    ) {
        let thread = done.thread;
        let mut next = || arguments.next().unwrap_or_default();
        let first = next();
        let Some(descriptor) = number(first) else { return };
        match done.name {
            "close" => threads.close_one(thread, descriptor),
            "listen" | "accept" | "accept4" => {
                // A stream, whatever it was taken for; an accepted one as well.
                let accepted = done.descriptor().filter(|_| done.name != "listen");
                for stream in [Some(descriptor), accepted].into_iter().flatten() {
                    threads.set(thread, stream, Slot { socket: None, closes: false });
                }
            }
            "dup" | "dup2" | "dup3" => {
                let (_, flags) = (next(), next());
                duplicate(done, descriptor, has_flag(flags, b"O_CLOEXEC", CLOEXEC), threads);
            }
            "fcntl" => {
                let (command, flags) = (next(), next());
                if is(command, &[b"F_DUPFD"], 0) {
                    duplicate(done, descriptor, false, threads);
                } else if is(command, &[b"F_DUPFD_CLOEXEC"], 1030) {
                    duplicate(done, descriptor, true, threads);
                } else if let Some(slot) = threads.get(thread, descriptor).filter(|_| done.succeeded()) {
                    if is(command, &[b"F_SETFD"], 2) {
                        let closes = has_flag(flags, b"FD_CLOEXEC", 1);
                        threads.set(thread, descriptor, Slot { closes, ..slot });
                    }
                }
            }
            _ => {
                let index = self.slot(first, descriptor, done, threads).and_then(|slot| slot.socket);
                let Some(socket) = index.and_then(|index| self.all.get_mut(index)) else { return };
                let datagrams = socket.apply(done, &mut self.room);
                if datagrams > 0 {
                    socket.used_by(thread, threads);
                    self.datagrams += datagrams;
                    self.carrying += 1;
                }
            }
        }
    }

    /// What socket(2) made.
    fn made<'a>(
        &mut self,
        arguments: &mut impl Iterator<Item = &'a [u8]>,
        descriptor: i64,
        done: Done<'_>,
        threads: &Threads,
    ) -> Slot {
        let mut next = || arguments.next().unwrap_or_default();
        let (family, kind, protocol) = (next(), next(), next());
        let family = match () {
            () if is(family, &[b"AF_INET", b"PF_INET"], 2) => Some(4),
            () if is(family, &[b"AF_INET6", b"PF_INET6"], 10) => Some(6),
            () => None,
        };
        let mut kinds = kind.split(|&byte| byte == b'|').map(<[u8]>::trim_ascii);
        let datagrams =
            kinds.any(|kind| word(kind) == b"SOCK_DGRAM" || number(kind).is_some_and(|it| it & 0xf == 2));
        let udp = is(protocol, &[b"IPPROTO_IP"], 0) || is(protocol, &[b"IPPROTO_UDP"], 17);
        let family = family.filter(|_| datagrams && udp);
        let socket = family.and_then(|family| {
            self.add(Socket::new(descriptor, Some(family), true, done.at), done.thread, threads)
        });
        Slot { socket, closes: has_flag(kind, b"SOCK_CLOEXEC", CLOEXEC) }
    }

    fn add(&mut self, mut socket: Socket, thread: u32, threads: &Threads) -> Option<usize> {
        if self.all.len() >= SOCKETS {
            self.unlisted += 1;
            return None;
        }
        socket.belongs_to(thread, threads);
        self.all.push(socket);
        Some(self.all.len() - 1)
    }

    /// What a descriptor is. One that is not known yet may be a socket from before the log began.
    fn slot(&mut self, shown: &[u8], descriptor: i64, done: Done<'_>, threads: &mut Threads) -> Option<Slot> {
        let told = annotation(shown);
        let ends = |start: &[u8]| told.and_then(|told| told.strip_prefix(start)?.strip_suffix(b"]"));
        let udp = ends(b"UDP:[").or_else(|| ends(b"UDPv6:["));
        let unclear = told.is_none_or(|told| told.starts_with(b"socket:["));
        let known = threads.get(done.thread, descriptor);
        match known {
            // By now it means something else: -y tells, although what made it so was not traced.
            Some(slot) if udp.is_none() && !unclear => {
                threads.set(done.thread, descriptor, Slot { socket: None, ..slot });
                return None;
            }
            Some(slot) if slot.socket.is_some() || udp.is_none() => return known,
            None if udp.is_none() && (!unclear || !is_for_sockets(done.name)) => return None,
            _ => {}
        }
        let family = udp.map(|_| if ends(b"UDP:[").is_some() { 4 } else { 6 });
        let mut socket = Socket::new(descriptor, family, false, done.at);
        if let Some(ends) = udp {
            socket.has_ends(ends);
        }
        let slot = Slot { socket: self.add(socket, done.thread, threads), closes: false };
        threads.set(done.thread, descriptor, slot);
        Some(slot)
    }
}

/// Any other file can be read and written.
fn is_for_sockets(name: &str) -> bool {
    !matches!(name, "read" | "readv" | "write" | "writev")
}

/// A second at least: milliseconds, or a `struct timespec` or `timeval`.
fn is_long(timeout: &[u8]) -> bool {
    match inside(timeout).map(|fields| items(fields).next()) {
        Some(seconds) => seconds.and_then(|one| number(one.value)).is_some_and(|seconds| seconds >= 1),
        None => number(timeout).is_some_and(|milliseconds| milliseconds >= 1000),
    }
}

fn duplicate(done: Done<'_>, descriptor: i64, closes: bool, threads: &mut Threads) {
    if let Some(duplicate) = done.descriptor() {
        match threads.get(done.thread, descriptor) {
            Some(slot) => threads.set(done.thread, duplicate, Slot { closes, ..slot }),
            None => threads.close_one(done.thread, duplicate),
        }
    }
}
