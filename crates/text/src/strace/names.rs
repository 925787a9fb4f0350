//! Constants that a log may have as numbers: with `-X raw`, or where strace did not know them.

use super::value::{number, word};

/// Socket options that matter for UDP: level, number, name (asm-generic/socket.h, linux/in.h, linux/in6.h).
const OPTIONS: [(i64, i64, &str); 17] = [
    (1, 2, "SO_REUSEADDR"),
    (1, 6, "SO_BROADCAST"),
    (1, 8, "SO_RCVBUF"),
    (1, 15, "SO_REUSEPORT"),
    (1, 25, "SO_BINDTODEVICE"),
    (0, 8, "IP_PKTINFO"),
    (0, 11, "IP_RECVERR"),
    (0, 20, "IP_RECVORIGDSTADDR"),
    (0, 35, "IP_ADD_MEMBERSHIP"),
    (0, 50, "IP_UNICAST_IF"),
    (41, 2, "IPV6_2292PKTINFO"),
    (41, 20, "IPV6_ADD_MEMBERSHIP"),
    (41, 25, "IPV6_RECVERR"),
    (41, 26, "IPV6_V6ONLY"),
    (41, 49, "IPV6_RECVPKTINFO"),
    (41, 50, "IPV6_PKTINFO"),
    (41, 76, "IPV6_UNICAST_IF"),
];

/// The name of a socket option; `None` for a number that is not in the table.
pub(super) fn option_name<'a>(level: &[u8], option: &'a [u8]) -> Option<&'a str> {
    let name = std::str::from_utf8(word(option)).ok()?;
    if ["SO_", "IP_", "IPV6_", "UDP_"].iter().any(|start| name.starts_with(start)) {
        return Some(name);
    }
    let level = match word(level) {
        b"SOL_SOCKET" => 1,
        b"SOL_IP" | b"IPPROTO_IP" => 0,
        b"SOL_IPV6" | b"IPPROTO_IPV6" => 41,
        level => number(level)?,
    };
    let option = number(option)?;
    OPTIONS.iter().find(|row| (row.0, row.1) == (level, option)).map(|row| row.2)
}

/// Errors of sockets (asm-generic/errno-base.h, errno.h).
const ERRORS: [(i64, &str); 15] = [
    (1, "EPERM"),
    (13, "EACCES"),
    (22, "EINVAL"),
    (64, "ENONET"),
    (71, "EPROTO"),
    (90, "EMSGSIZE"),
    (92, "ENOPROTOOPT"),
    (95, "EOPNOTSUPP"),
    (99, "EADDRNOTAVAIL"),
    (100, "ENETDOWN"),
    (101, "ENETUNREACH"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (112, "EHOSTDOWN"),
    (113, "EHOSTUNREACH"),
];

/// The name of an error; `None` for 0, and for numbers that are not in the table.
pub(super) fn errno_name(value: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(word(value)).ok()?;
    if name.starts_with('E') && name.len() <= 20 {
        return Some(name.to_owned());
    }
    let number = number(value)?;
    ERRORS.iter().find(|row| row.0 == number).map(|row| row.1.to_owned())
}

/// The system calls that matter, and `None` for all others.
pub(super) fn known(name: &[u8]) -> Option<&'static str> {
    Some(match name {
        b"socket" => "socket",
        b"bind" => "bind",
        b"connect" => "connect",
        b"listen" => "listen",
        b"accept" => "accept",
        b"accept4" => "accept4",
        b"recvfrom" => "recvfrom",
        b"recvmsg" => "recvmsg",
        b"recvmmsg" | b"recvmmsg_time64" => "recvmmsg",
        b"recv" => "recv",
        b"read" => "read",
        b"readv" => "readv",
        b"sendto" => "sendto",
        b"sendmsg" => "sendmsg",
        b"sendmmsg" => "sendmmsg",
        b"send" => "send",
        b"write" => "write",
        b"writev" => "writev",
        b"setsockopt" => "setsockopt",
        b"getsockopt" => "getsockopt",
        b"getsockname" => "getsockname",
        b"close" => "close",
        b"close_range" => "close_range",
        b"dup" => "dup",
        b"dup2" => "dup2",
        b"dup3" => "dup3",
        b"fcntl" | b"fcntl64" => "fcntl",
        b"clone" | b"clone2" | b"clone3" => "clone",
        b"fork" => "fork",
        b"vfork" => "vfork",
        b"execve" => "execve",
        b"execveat" => "execveat",
        b"poll" | b"ppoll" | b"ppoll_time64" => "poll",
        b"select" | b"_newselect" | b"pselect6" | b"pselect6_time64" => "select",
        _ => return None,
    })
}
