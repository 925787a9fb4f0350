//! Logs of strace(1): what a program asked of its UDP sockets.
//!
//! Calls that are alike are added up as they are read, so memory is bounded however long the log is. Lines are
//! understood with and without -f, -t, -tt, -ttt, -r, -T, -y, -yy, -Y, -i, -n and -X, in the spellings of old and
//! new versions; a log may begin anywhere. What is not strace's is passed over.

mod control;
mod facts;
mod line;
mod names;
mod socket;
mod sockets;
mod threads;
mod value;

use std::io::{BufRead, Read};

use udpkit_capture::Tally;

pub use facts::{CallKind, Calls, Key, Moment, TracedSocket};

use line::{Body, call, unquoted};
use names::known;
use sockets::{Done, Sockets};
use threads::Threads;

/// The longest line that is read. strace itself shows 32 bytes of a string unless -s asks for more.
const LINE: u64 = 1 << 20;
/// The most lines on which one call stands, where a terminal, a mail or a program's own output broke it.
const PIECES: u32 = 12;

/// What a log tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// UDP sockets, in the order in which they were first seen.
    pub sockets: Vec<TracedSocket>,
    /// `packets` are the lines that were understood, `datagrams` what calls received and sent.
    pub tally: Tally,
    /// Lines of calls that received or sent any: one call may do many.
    pub carrying: u64,
}

/// Whether text is a log of strace: it has a call that returned, which matters to sockets.
#[must_use]
pub fn is_strace(head: &[u8]) -> bool {
    const LINES: usize = 1000;
    head.split(|&byte| byte == b'\n').take(LINES).any(|text| match line::line(text).body {
        Body::Call(text) | Body::Unfinished(text) => {
            line::name(text).is_some_and(|name| known(name).is_some())
                && (call(text).is_some() || matches!(line::line(text).body, Body::Unfinished(_)))
        }
        Body::Resumed(_) | Body::Exited => true,
        _ => false,
    })
}

/// Reads a log to its end.
///
/// A line that is cut off or too long, and an error while reading, is counted and named in [`Tally`].
pub fn read(mut input: impl BufRead) -> Trace {
    let mut log = Log::default();
    let mut text = Vec::new();
    let mut number = 0;
    loop {
        text.clear();
        match input.by_ref().take(LINE).read_until(b'\n', &mut text) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                log.tally.add_damage(&format!("after line {number}: {error}"));
                break;
            }
        }
        number += 1;
        if text.last() == Some(&b'\n') {
            text.pop();
        } else if text.len() as u64 == LINE {
            log.tally.add_unread("line too long");
            if let Err(error) = skip_line(&mut input) {
                log.tally.add_damage(&format!("after line {number}: {error}"));
                break;
            }
        }
        log.take(&text, number);
    }
    log.finish()
}

/// Whether it may be a piece of a broken call: neither a call of its own nor anything else of strace's.
fn goes_on(body: Body<'_>) -> bool {
    match body {
        Body::Chatter => true,
        Body::Call(text) => call(text).is_none() && line::name(text).and_then(known).is_none(),
        _ => false,
    }
}

fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (used, done) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[derive(Default)]
struct Log {
    threads: Threads,
    sockets: Sockets,
    tally: Tally,
    joined: Vec<u8>,
    broken: Option<Broken>,
}

/// A call whose end is not on its line.
struct Broken {
    text: Vec<u8>,
    at: Moment,
    thread: u32,
    pieces: u32,
}

impl Log {
    fn take(&mut self, text: &[u8], number: u64) {
        let line = line::line(text);
        if let Some(broken) = self.broken.take() {
            if goes_on(line.body) {
                return self.go_on(broken, text);
            }
            self.tally.add_unread("line cut off");
        }
        if line.body == Body::Chatter {
            return;
        }
        let at = Moment { line: number, time_ns: line.time_ns };
        // "Process 477 attached" is a word of strace's own and of no thread, but for the call that it cuts.
        let of_none =
            matches!(line.body, Body::Attached(_, text) if line::name(text).and_then(known).is_none());
        let thread = if of_none {
            threads::UNNAMED
        } else {
            self.threads.find(line.thread, matches!(line.body, Body::Resumed(_)))
        };
        if !line.comm.is_empty() {
            self.threads.call_it(thread, line.comm);
        }
        let understood = match line.body {
            Body::Call(text) => self.call(text, at, thread),
            Body::Unfinished(text) => {
                let name = line::name(text).and_then(known);
                if let Some(name) = name {
                    self.threads.begin(thread, text, matches!(name, "clone" | "fork" | "vfork"));
                }
                true
            }
            Body::Resumed(rest) => {
                if let Some(beginning) = self.threads.resume(thread) {
                    let mut joined = std::mem::take(&mut self.joined);
                    joined.clear();
                    joined.extend_from_slice(&beginning);
                    joined.extend_from_slice(rest);
                    self.call(&joined, at, thread);
                    self.joined = joined;
                }
                true
            }
            Body::Attached(child, text) => {
                let call = line::name(text).and_then(known).map(|_| (thread, text));
                self.threads.attached(child, call);
                true
            }
            Body::Exited => {
                self.threads.exited(thread);
                true
            }
            Body::Signal => true,
            Body::Chatter => false,
        };
        if understood {
            self.tally.packets += 1;
            if let Some(time) = line.time_ns {
                self.tally.add_time(time);
            }
        }
    }

    fn call(&mut self, text: &[u8], at: Moment, thread: u32) -> bool {
        let name = line::name(text).and_then(known);
        let Some(call) = call(text) else {
            if name.is_some() {
                self.broken = Some(Broken { text: text.to_vec(), at, thread, pieces: 1 });
            }
            return false;
        };
        if let Some(name) = name {
            self.sockets.apply(Done { name, call: &call, at, thread }, &mut self.threads);
        }
        true
    }

    /// Takes one more line for a piece of a call.
    fn go_on(&mut self, mut broken: Broken, text: &[u8]) {
        broken.text.extend_from_slice(unquoted(text));
        broken.pieces += 1;
        if call(&broken.text).is_some() {
            self.call(&broken.text, broken.at, broken.thread);
            self.tally.packets += 1;
        } else if broken.pieces < PIECES && (broken.text.len() as u64) < LINE {
            self.broken = Some(broken);
        } else {
            self.tally.add_unread("line cut off");
        }
    }

    fn finish(mut self) -> Trace {
        if self.broken.is_some() {
            self.tally.add_unread("line cut off");
        }
        if self.sockets.unlisted > 0 {
            let count = self.sockets.unlisted;
            self.tally.add_damage(&format!("{count} more sockets: there was no room for what they did"));
        }
        self.tally.datagrams = self.sockets.datagrams;
        Trace {
            carrying: self.sockets.carrying,
            sockets: self.sockets.into_facts(self.threads.unnamed),
            tally: self.tally,
        }
    }
}
