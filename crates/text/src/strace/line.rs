//! One line of a log: who, when, and what it is.

use super::value::{annotation, end_of_arguments, number};

/// A line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The thread, where the line begins with `[pid 477]` or `477`.
    pub(super) thread: Option<u32>,
    /// Its name, with -Y.
    pub(super) comm: &'a [u8],
    /// Since the epoch, with -ttt.
    pub(super) time_ns: Option<u64>,
    pub(super) body: Body<'a>,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// Text that begins with a call, whole or not: [`call`] tells.
    Call(&'a [u8]),
    /// The beginning of a call during which another thread was shown.
    Unfinished(&'a [u8]),
    /// The rest of it, without its name.
    Resumed(&'a [u8]),
    /// `Process 477 attached`; before it on the line the call that made it, if any.
    Attached(u32, &'a [u8]),
    Exited,
    Signal,
    /// Not strace's.
    Chatter,
}

/// A call that returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call<'a> {
    pub(super) name: &'a [u8],
    /// What stands between its parentheses.
    pub(super) arguments: &'a [u8],
    /// What it returned; `None` for `?`.
    pub(super) result: Option<i64>,
    /// What stands behind the number: an error's name, or what -y tells of a descriptor.
    pub(super) rest: &'a [u8],
}

impl<'a> Call<'a> {
    /// The error's name, if it failed.
    pub(super) fn errno(&self) -> Option<&'a [u8]> {
        let is_name = |word: &&[u8]| word.first() == Some(&b'E');
        (self.result == Some(-1)).then_some(super::value::word(self.rest)).filter(is_name)
    }

    /// What a child is called outside its own PID namespace: `= 5 /* 4711 in strace's PID NS */`.
    pub(super) fn child(&self) -> Option<u32> {
        let outside = self.rest.strip_prefix(b"/* ").filter(|rest| rest.ends_with(b"in strace's PID NS */"));
        outside.map_or(self.result, number)?.try_into().ok().filter(|&child| child > 0)
    }
}

const UNFINISHED: &[u8] = b"<unfinished ...>";
const ATTACHED: &[u8] = b" attached";

/// Without blanks at its ends, and without what mail, comments and notes put before each line.
pub(super) fn unquoted(text: &[u8]) -> &[u8] {
    const MARKS: [&[u8]; 5] = [b">", b"|", b"//", b"->", b"# "];
    let mut rest = text.trim_ascii();
    while let Some(after) = MARKS.iter().find_map(|mark| rest.strip_prefix(*mark)) {
        rest = after.trim_ascii_start();
    }
    rest
}

/// Reads a line without its end.
pub(super) fn line(text: &[u8]) -> Line<'_> {
    let mut rest = unquoted(text);
    let (mut thread, mut comm, mut time_ns) = (None, &b""[..], None);
    // At most: a thread, a time, the time since the line before, a call's number and an instruction's address.
    for _ in 0..5 {
        let Some(&first) = rest.first() else { break };
        let after = match first {
            b'[' => {
                let Some(end) = rest.iter().take(80).position(|&byte| byte == b']') else { break };
                if let Some(pid) = rest[1..end].strip_prefix(b"pid") {
                    (thread, comm) = named(pid.trim_ascii());
                } else if !rest[1..end].iter().all(|&byte| byte == b' ' || byte.is_ascii_hexdigit()) {
                    break;
                }
                &rest[end + 1..]
            }
            b'(' if rest.starts_with(b"(+") => match rest.iter().take(40).position(|&byte| byte == b')') {
                Some(end) => &rest[end + 1..],
                None => break,
            },
            b'0'..=b'9' => {
                let stamp =
                    rest.iter().take_while(|byte| byte.is_ascii_digit() || b".:".contains(byte)).count();
                if rest[..stamp].iter().all(u8::is_ascii_digit) {
                    let end = match rest.get(stamp) {
                        Some(b' ') => stamp,
                        Some(b'<') => stamp + annotation(rest).map_or(0, |comm| comm.len() + 2),
                        _ => break,
                    };
                    (thread, comm) = named(&rest[..end]);
                    &rest[end..]
                } else if rest.get(stamp) == Some(&b' ') {
                    time_ns = since_epoch(&rest[..stamp]);
                    &rest[stamp..]
                } else {
                    break;
                }
            }
            _ => break,
        };
        rest = after.trim_ascii_start();
    }
    Line { thread, comm, time_ns, body: body(rest) }
}

/// `477` or `477<nc>`.
fn named(text: &[u8]) -> (Option<u32>, &[u8]) {
    (number(text).and_then(|pid| pid.try_into().ok()), annotation(text).unwrap_or_default())
}

/// `1795263768.487658`: not a time of day, nor of -r, which begins with 0 and ends soon after.
fn since_epoch(stamp: &[u8]) -> Option<u64> {
    const YEAR_2001: u64 = 1_000_000_000;
    let (seconds, fraction) = std::str::from_utf8(stamp).ok()?.split_once('.')?;
    let seconds: u64 = seconds.parse().ok().filter(|&seconds| seconds >= YEAR_2001)?;
    let nanoseconds: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

fn body(text: &[u8]) -> Body<'_> {
    match text.first() {
        Some(b'+') if text.starts_with(b"+++ ") && text.ends_with(b" +++") => return Body::Exited,
        Some(b'-') if text.starts_with(b"--- ") && text.ends_with(b" ---") => return Body::Signal,
        Some(b'<') if text.starts_with(b"<... ") => {
            let end = text.iter().position(|&byte| byte == b'>');
            let resumed = end.filter(|&end| text[..end].ends_with(b" resumed"));
            return resumed.map_or(Body::Chatter, |end| Body::Resumed(&text[end + 1..]));
        }
        None => return Body::Chatter,
        _ => {}
    }
    if let Some(text) = text.strip_suffix(ATTACHED) {
        let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (before, pid) = text.split_at(text.len() - digits);
        if let (Some(before), Some(pid)) = (before.strip_suffix(b"Process "), number(pid)) {
            let call = before.strip_suffix(b"strace: ").unwrap_or(before);
            return pid.try_into().map_or(Body::Chatter, |pid| Body::Attached(pid, call));
        }
    }
    if name(text).is_none() {
        return Body::Chatter;
    }
    match text.strip_suffix(UNFINISHED) {
        Some(beginning) => Body::Unfinished(beginning),
        None => Body::Call(text),
    }
}

/// The name of the call with which `text` begins.
pub(super) fn name(text: &[u8]) -> Option<&[u8]> {
    let letters =
        text.iter().take_while(|&&byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let end = letters.count();
    (end > 1 && text.get(end) == Some(&b'(')).then(|| &text[..end])
}

/// Reads a call that returned; `None` if the line is cut off, or none.
pub(super) fn call(text: &[u8]) -> Option<Call<'_>> {
    let name = name(text)?;
    let rest = &text[name.len() + 1..];
    let end = end_of_arguments(rest)?;
    let result = rest[end + 1..].trim_ascii_start().strip_prefix(b"= ")?;
    let digits = result.iter().take_while(|&&byte| byte == b'-' || byte.is_ascii_alphanumeric()).count();
    if digits == 0 && !result.starts_with(b"?") {
        return None;
    }
    let behind = &result[digits..];
    Some(Call { name, arguments: &rest[..end], result: number(result), rest: behind.trim_ascii() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_taken_off() {
        let head = |text: &'static str| {
            let line = line(text.as_bytes());
            assert_eq!(line.body, Body::Call(b"close(3) = 0"), "{text}");
            (line.thread, line.comm, line.time_ns)
        };
        let nothing = (None, &b""[..], None);
        for text in [
            "close(3) = 0",
            "  close(3) = 0\r",
            "12:22:47 close(3) = 0",
            "12:22:47.987418 close(3) = 0",
            "     0.000028 close(3) = 0",
            "12:22:49 (+     0.000028) close(3) = 0",
            "[00007f1475a7b990] close(3) = 0",
            "[   3] close(3) = 0",
            "> > close(3) = 0",
            "    -> close(3) = 0",
            "// | close(3) = 0",
        ] {
            assert_eq!(head(text), nothing, "{text}");
        }
        for text in ["[pid   477] close(3) = 0", "477   close(3) = 0", "477   12:22:47 close(3) = 0"] {
            assert_eq!(head(text), (Some(477), &b""[..], None), "{text}");
        }
        for text in ["[pid   477<a b>] close(3) = 0", "477<a b> close(3) = 0"] {
            assert_eq!(head(text), (Some(477), &b"a b"[..], None), "{text}");
        }
        let epoch = Some(1_795_263_768_487_658_000);
        assert_eq!(head("1795263768.487658 close(3) = 0"), (None, &b""[..], epoch));
        assert_eq!(head("477 1795263768.487658 close(3) = 0"), (Some(477), &b""[..], epoch));
    }

    #[test]
    fn results() {
        let failed =
            call(b"recvfrom(3, 0x7f, 9, 0, NULL, NULL)   = -1 EAGAIN (Resource ...) <0.00001>").unwrap();
        assert_eq!((failed.result, failed.errno()), (Some(-1), Some(&b"EAGAIN"[..])));
        let duplicate = call(b"dup(3<UDP:[1.1.1.1:1->2.2.2.2:2]>) = 4<UDP:[1.1.1.1:1->2.2.2.2:2]>").unwrap();
        assert_eq!((duplicate.result, duplicate.errno()), (Some(4), None));
        assert_eq!(call(b"exit_group(0) = ?").unwrap().result, None);
        assert_eq!(call(b"fork() = 5 /* 4711 in strace's PID NS */").unwrap().child(), Some(4711));
        assert_eq!(call(b"recvfrom(3, \"abc"), None);
        assert!(
            call(b"mmap(NULL, 3) = 0xffffffffff600000").is_some() && call(b"printf(\"a = 3\")").is_none()
        );
    }

    #[test]
    fn what_is_no_call() {
        let body = |text: &'static [u8]| line(text).body;
        assert_eq!(body(b"<... recvfrom resumed>\"a\", 1) = 1"), Body::Resumed(b"\"a\", 1) = 1"));
        assert_eq!(body(b"[pid 3] recvfrom(3,  <unfinished ...>"), Body::Unfinished(b"recvfrom(3,  "));
        assert_eq!(body(b"strace: Process 11935 attached"), Body::Attached(11935, b""));
        assert_eq!(
            body(b"clone3({flags=CLONE_VMstrace: Process 7 attached"),
            Body::Attached(7, b"clone3({flags=CLONE_VM")
        );
        assert_eq!(body(b"+++ exited with 0 +++"), Body::Exited);
        assert_eq!(body(b"--- SIGCHLD {si_signo=SIGCHLD} ---"), Body::Signal);
        for chatter in [
            &b"Hello, world"[..],
            b"",
            b" > /usr/lib/libc.so.6(recvfrom+0x14) [0x10]",
            b"12:00",
            b"7",
            b"[",
            b"<...",
            b"(+",
        ] {
            assert_eq!(line(chatter).body, Body::Chatter);
        }
    }
}
