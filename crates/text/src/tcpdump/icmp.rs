//! ICMP errors in tcpdump's words (print-icmp.c, print-icmp6.c) back to types and codes.

use super::line::{after, leading};

/// An ICMP error as a line tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error<'a> {
    pub(crate) icmp_type: u8,
    pub(crate) code: u8,
    pub(crate) mtu: Option<u32>,
    pub(crate) about: About<'a>,
}

/// What the line tells of the datagram in error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About<'a> {
    /// Nothing, not even that it was UDP's.
    Nothing,
    /// To which host it went, but not that it was UDP's.
    Host(&'a [u8]),
    /// That it was a datagram to this host.
    Udp(&'a [u8]),
    /// That it was a datagram to this port.
    Port(&'a [u8], &'a [u8]),
}

/// What an ICMP message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Icmp<'a> {
    Error(Error<'a>),
    /// No error, or one about something else than UDP.
    Other,
    /// The line ends before it says which error this is.
    Cut,
}

/// Destination unreachable (type 3): the word before the host, what follows "unreachable - ", the code.
const UNREACHABLE: &[(&[u8], &[u8], u8)] = &[
    (b"net", b"", 0),
    (b"host", b"", 1),
    (b"", b"need to frag", 4),
    (b"", b"source route failed", 5),
    (b"net", b"unknown", 6),
    (b"host", b"unknown", 7),
    (b"", b"source host isolated", 8),
    (b"net", b"admin prohibited", 9),
    (b"host", b"admin prohibited", 10),
    (b"net", b"tos prohibited", 11),
    (b"host", b"tos prohibited", 12),
    (b"host", b"admin prohibited filter", 13),
    (b"host", b"host precedence violation", 14),
    (b"host", b"precedence cutoff", 15),
];

/// Errors that name no host: their words, type and code.
const NAMELESS: &[(&[u8], u8, u8)] = &[
    (b"time exceeded in-transit", 11, 0),
    (b"ip reassembly time exceeded", 11, 1),
    (b"parameter problem - octet", 12, 0),
    (b"parameter problem - code 1", 12, 1),
    (b"parameter problem - code 2", 12, 2),
];

/// `ICMPv6` destination unreachable (type 1): what precedes the host, and the code.
const UNREACHABLE6: &[(&[u8], u8)] = &[
    (b"unreachable route ", 0),
    (b"unreachable prohibited ", 1),
    (b"beyond scope ", 2),
    (b"unreachable address ", 3),
];

/// The other `ICMPv6` errors.
const NAMELESS6: &[(&[u8], u8, u8)] = &[
    (b"packet too big, mtu ", 2, 0),
    (b"time exceeded in-transit (reassembly)", 3, 1),
    (b"parameter problem, erroneous", 4, 0),
    (b"parameter problem, next header", 4, 1),
    (b"parameter problem, option", 4, 2),
    (b"parameter problem, incomplete header chain", 4, 3),
];

fn error(icmp_type: u8, code: u8, about: About<'_>) -> Icmp<'_> {
    Icmp::Error(Error { icmp_type, code, mtu: None, about })
}

/// The text up to the next blank.
fn head(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii_start())
}

/// What follows "ICMP " or, of tcpdump 3, "icmp: ".
pub(crate) fn v4(text: &[u8]) -> Icmp<'_> {
    if let Some((_, icmp_type, code)) = NAMELESS.iter().find(|(words, ..)| text.starts_with(words)) {
        return error(*icmp_type, *code, About::Nothing);
    }
    let (first, behind) = head(text);
    let (word, host, rest) = match first {
        b"net" | b"host" => {
            let (host, rest) = head(behind);
            (first, host, rest)
        }
        host => (&b""[..], host, behind),
    };
    if let Some(port) = rest.strip_prefix(b"udp port ") {
        let (port, rest) = head(port);
        let said = head(rest).0;
        let said = said.strip_suffix(b",").unwrap_or(said);
        let whole = !said.is_empty() && b"unreachable".starts_with(said);
        return if whole { error(3, 3, About::Port(host, port)) } else { Icmp::Cut };
    }
    if let Some(protocol) = rest.strip_prefix(b"protocol ") {
        let (protocol, rest) = head(protocol);
        return if matches!(protocol, b"17" | b"udp") && rest.starts_with(b"unreachable") {
            error(3, 2, About::Udp(host))
        } else {
            Icmp::Other
        };
    }
    let Some(detail) = rest.strip_prefix(b"unreachable") else {
        let cut = !rest.is_empty() && b"unreachable".starts_with(rest);
        return if cut { Icmp::Cut } else { Icmp::Other };
    };
    let end = detail.iter().position(|byte| matches!(byte, b',' | b'(' | b'[')).unwrap_or(detail.len());
    let (said, more) = detail.split_at(end);
    let said = said.strip_prefix(b" - ").unwrap_or(said).trim_ascii();
    let known = UNREACHABLE.iter().find(|known| (known.0, known.1) == (word, said)).map(|known| known.2);
    let numbered = || u8::try_from(leading(said.strip_prefix(b"#")?)?).ok();
    let Some(code) = known.or_else(numbered) else { return Icmp::Other };
    let mtu = more.strip_prefix(b"(mtu ").and_then(leading).filter(|mtu| *mtu > 0);
    Icmp::Error(Error { icmp_type: 3, code, mtu, about: About::Host(host) })
}

/// What follows "ICMP6, ".
pub(crate) fn v6(text: &[u8]) -> Icmp<'_> {
    if text == b"destination unreachable[|icmp6]" {
        return Icmp::Cut;
    }
    let host = |text| {
        let host = head(text).0;
        host.strip_suffix(b",").unwrap_or(host)
    };
    if let Some(text) = text.strip_prefix(b"destination unreachable,") {
        let text = text.trim_ascii_start();
        if let Some(text) = text.strip_prefix(b"unreachable port, ") {
            let (to, rest) = head(text);
            return match rest.strip_prefix(b"udp port ") {
                Some(port) if !host(port).is_empty() => error(1, 4, About::Port(to, host(port))),
                _ => Icmp::Other,
            };
        }
        if let Some((words, code)) = UNREACHABLE6.iter().find(|(words, _)| text.starts_with(words)) {
            return error(1, *code, About::Host(host(&text[words.len()..])));
        }
        let code = after(text, b"unknown unreach code (").and_then(leading);
        return match code.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => error(1, code, About::Nothing),
            None => Icmp::Other,
        };
    }
    if let Some(to) = text.strip_prefix(b"time exceeded in-transit for ") {
        return error(3, 0, About::Host(host(to)));
    }
    let Some((words, icmp_type, code)) = NAMELESS6.iter().find(|(words, ..)| text.starts_with(words)) else {
        return Icmp::Other;
    };
    let mtu = if *icmp_type == 2 { leading(&text[words.len()..]).filter(|mtu| *mtu > 0) } else { None };
    Icmp::Error(Error { icmp_type: *icmp_type, code: *code, mtu, about: About::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(icmp_type: u8, code: u8, mtu: Option<u32>, about: About<'_>) -> Icmp<'_> {
        Icmp::Error(Error { icmp_type, code, mtu, about })
    }

    /// The wordings of print-icmp.c and of `tests/*.out` of tcpdump 4.99.3.
    #[test]
    fn words_of_icmp() {
        let at = About::Host(b"10.0.0.2");
        for (text, expected) in [
            (
                "10.0.0.2 udp port 53 unreachable, length 36",
                said(3, 3, None, About::Port(b"10.0.0.2", b"53")),
            ),
            (
                "ns.example udp port domain unreachable",
                said(3, 3, None, About::Port(b"ns.example", b"domain")),
            ),
            ("10.0.0.2 udp port 53 unrea", said(3, 3, None, About::Port(b"10.0.0.2", b"53"))),
            ("10.0.0.2 udp port 5", Icmp::Cut),
            ("10.0.0.2 tcp port 53 unreachable, length 36", Icmp::Other),
            ("10.0.0.2 protocol 17 unreachable, length 36", said(3, 2, None, About::Udp(b"10.0.0.2"))),
            ("10.0.0.2 protocol 89 unreachable, length 36", Icmp::Other),
            ("10.0.0.2 protocol 132 port 7 unreachable, length 36", Icmp::Other),
            ("net 10.0.0.2 unreachable, length 36", said(3, 0, None, at)),
            ("host 10.0.0.2 unreachable, length 92", said(3, 1, None, at)),
            ("host 10.0.0.2 unreachable - unknown, length 36", said(3, 7, None, at)),
            ("host 10.0.0.2 unreachable - admin prohibited, length 68", said(3, 10, None, at)),
            ("host 10.0.0.2 unreachable - admin prohibited filter, length 36", said(3, 13, None, at)),
            ("host 10.0.0.2 unreachable - admin prohibited filter [tos 0xc0]", said(3, 13, None, at)),
            ("net 10.0.0.2 unreachable - admin prohibited, length 36", said(3, 9, None, at)),
            ("10.0.0.2 unreachable - need to frag (mtu 1400), length 556", said(3, 4, Some(1400), at)),
            ("10.0.0.2 unreachable - need to frag, length 556", said(3, 4, None, at)),
            ("10.0.0.2 unreachable - #77, length 36", said(3, 77, None, at)),
            ("time exceeded in-transit, length 36", said(11, 0, None, About::Nothing)),
            ("ip reassembly time exceeded, length 556", said(11, 1, None, About::Nothing)),
            ("parameter problem - octet 20, length 48", said(12, 0, None, About::Nothing)),
            ("redirect 10.0.0.2 to host 10.0.0.3, length 36", Icmp::Other),
            ("source quench, length 36", Icmp::Other),
            ("echo request, id 1, seq 1, length 64", Icmp::Other),
            ("[|icmp]", Icmp::Other),
            ("", Icmp::Other),
        ] {
            assert_eq!(v4(text.as_bytes()), expected, "{text}");
        }
    }

    /// The wordings of print-icmp6.c.
    #[test]
    fn words_of_icmp6() {
        let at = About::Host(b"fd00::1");
        for (text, expected) in [
            (
                "destination unreachable, unreachable port, fd00::1 udp port 53, length 60",
                said(1, 4, None, About::Port(b"fd00::1", b"53")),
            ),
            (
                "destination unreachable, unreachable port, fd00::1 udp port 53",
                said(1, 4, None, About::Port(b"fd00::1", b"53")),
            ),
            ("destination unreachable, unreachable port, fd00::1 tcp port 53, length 60", Icmp::Other),
            ("destination unreachable, unreachable route fd00::1, length 60", said(1, 0, None, at)),
            ("destination unreachable,  unreachable prohibited fd00::1, length 60", said(1, 1, None, at)),
            (
                "destination unreachable, beyond scope fd00::1, source address fe80::1, length 60",
                said(1, 2, None, at),
            ),
            ("destination unreachable, unreachable address fd00::1, length 60", said(1, 3, None, at)),
            (
                "destination unreachable, unknown unreach code (5), length 60",
                said(1, 5, None, About::Nothing),
            ),
            ("packet too big, mtu 1280, length 1240", said(2, 0, Some(1280), About::Nothing)),
            ("time exceeded in-transit for fd00::1, length 60", said(3, 0, None, at)),
            ("time exceeded in-transit (reassembly), length 60", said(3, 1, None, About::Nothing)),
            ("parameter problem, next header - octet 40, length 60", said(4, 1, None, About::Nothing)),
            ("echo request, id 1, seq 1, length 64", Icmp::Other),
            ("neighbor solicitation, who has fe80::1, length 32", Icmp::Other),
            ("destination unr", Icmp::Other),
            ("destination unreachable[|icmp6]", Icmp::Cut),
        ] {
            assert_eq!(v6(text.as_bytes()), expected, "{text}");
        }
    }
}
