//! What follows the two ends: tcpdump's printers name UDP only when they know nothing better.

use udpkit_capture::Checksum;

use super::icmp::{self, Icmp};
use super::line::{Header, after, leading};

/// What a packet is, by the text behind its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded<'a> {
    /// UDP, if the ends have ports. `sure`: the line says so.
    Udp { length: Option<u16>, checksum: Sum, sure: bool },
    /// UDP, but its ports were not captured, or are in another fragment.
    UdpPortless,
    /// An ICMP or `ICMPv6` message.
    Icmp(Icmp<'a>),
    /// Another IP packet within this one.
    Inner(&'a [u8]),
    /// Another packet within this one, on the next line.
    InnerAhead,
    /// VXLAN: the same, in a datagram.
    Vxlan,
    /// IPv6 extension headers or AH stand before the ports: "1234 > 53: …".
    Behind(&'a [u8]),
    /// Something else.
    Other,
    /// The line ends before it says.
    Cut,
}

/// What `-v` says about the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// Nothing.
    Untold,
    Fine,
    /// It is this one, which is not right; `None`: an old tcpdump, or the line is cut.
    Bad(Option<u16>),
}

impl Sum {
    /// A wrong sum is fine if it is that of the pseudo-header alone: the network card completes it.
    pub(crate) fn judge(self, pseudo_header: impl FnOnce() -> Option<u16>) -> Checksum {
        match self {
            Sum::Untold | Sum::Bad(None) => Checksum::Unknown,
            Sum::Fine => Checksum::Fine,
            Sum::Bad(Some(sum)) => match pseudo_header() {
                Some(partial) if partial == sum => Checksum::Fine,
                Some(_) => Checksum::Wrong,
                None => Checksum::Unknown,
            },
        }
    }
}

/// What tcpdump writes for packets that have ports and are not UDP's.
const OTHER_PORTS: &[&[u8]] = &[
    b"Flags [",
    b"tcp",
    b"[tcp",
    b"[bad tcp",
    b"[|tcp",
    b"truncated-tcp",
    b"sctp",
    b"SCTP",
    b"[|sctp",
    b"DCCP",
    b"dccp",
    b"[|dccp",
    b"PGM",
    b"[|pgm",
    b"[bad hdr length",
];

/// And for packets without ports.
const NO_PORTS: &[&[u8]] = &[
    b"igmp",
    b"IGMP",
    b"[|igmp",
    b"ESP(",
    b"OSPF",
    b"PIM",
    b"pim",
    b"VRRP",
    b"vrrp",
    b"CARP",
    b"EIGRP",
    b"igrp",
    b"RSVP",
    b"rsvp",
    b"mobility",
    b"mobile",
    b"IPComp",
    b"egp",
    b"nd ",
    b"no next header",
    b"EtherIP",
    b"etherip",
    b"truncated-",
    b"[|esp",
    b"[|ospf",
    b"[|pim",
    b"[|gre",
    b"[|ah",
    b"bad-hlen",
    b"IPX",
    b"[Multiple",
    b"[No ",
    b"[The ",
    b"[Header",
];

/// What precedes the ports where tcpdump printed only them behind the addresses.
const EXTENSIONS: &[&[u8]] = &[b"HBH ", b"DSTOPT ", b"srcrt ", b"RT6 ", b"frag (", b"AH("];

/// Printers whose "length N" is that of the UDP payload.
const WITH_LENGTH: &[&[u8]] =
    &[b"NTPv", b"BOOTP/DHCP", b"TFTP", b"RADIUS", b"SYSLOG", b"SIP", b"RIPv", b"BFDv", b"sFlow"];

fn begins(text: &[u8], with: &[&[u8]]) -> bool {
    with.iter().any(|start| text.starts_with(start))
}

/// Reads the text behind "source > destination: ". `ports`: the ends may have ports.
pub(crate) fn decode(text: &[u8], ports: bool) -> Decoded<'_> {
    if text.is_empty() {
        return Decoded::Cut;
    }
    if let Some(told) = text.strip_prefix(b"UDP,") {
        return Decoded::Udp { length: told_length(told), checksum: Sum::Untold, sure: true };
    }
    if ports && b"UDP,".starts_with(text) {
        return Decoded::Udp { length: None, checksum: Sum::Untold, sure: text.len() > 1 };
    }
    if text.starts_with(b"Flags [") || b"Flags [".starts_with(text) {
        return if text.len() < 7 { Decoded::Cut } else { Decoded::Other };
    }
    match text[0] {
        b'[' => {
            if let Some((checksum, rest)) = udp_checksum(text) {
                return Decoded::Udp { length: payload_length(rest), checksum, sure: true }.or_vxlan(rest);
            }
            if text.starts_with(b"[|udp") || text.starts_with(b"[|ip") {
                return Decoded::UdpPortless;
            }
            if let Some(at) = after(text, b"] ICMP6, ") {
                return Decoded::Icmp(icmp::v6(at));
            }
        }
        b'I' | b'i' => {
            if let Some(said) = text.strip_prefix(b"ICMP ") {
                return Decoded::Icmp(icmp::v4(said));
            }
            if let Some(said) = text.strip_prefix(b"ICMP6, ") {
                return Decoded::Icmp(icmp::v6(said));
            }
            // tcpdump 3: "icmp: …", "icmp 36: …".
            if text.starts_with(b"icmp: ") || text.starts_with(b"icmp ") {
                return Decoded::Icmp(after(text, b": ").map_or(Icmp::Other, icmp::v4));
            }
            if text.starts_with(b"ICMP") || text.starts_with(b"icmp") {
                return Decoded::Other;
            }
            if let Some(inner) = text.strip_prefix(b"IP ").or_else(|| text.strip_prefix(b"IP6 ")) {
                return Decoded::Inner(inner);
            }
            if let Some(protocol) = text.strip_prefix(b"ip-proto-") {
                return if leading(protocol) == Some(17) { Decoded::UdpPortless } else { Decoded::Other };
            }
        }
        b'(' if super::line::is_header(text) => return Decoded::Inner(text),
        b'G' if text.starts_with(b"GREv") => {
            // "GREv0, length 64: IP …"; with -e the inner packet has no "IP" before it.
            return match after(text, b": ") {
                Some(inner) => Decoded::Inner(
                    inner.strip_prefix(b"IP ").or(inner.strip_prefix(b"IP6 ")).unwrap_or(inner),
                ),
                None => Decoded::InnerAhead,
            };
        }
        _ => {}
    }
    if begins(text, OTHER_PORTS) || begins(text, NO_PORTS) || is_old_tcp(text) {
        return Decoded::Other;
    }
    if begins(text, EXTENSIONS) {
        return behind_extensions(text);
    }
    if text == b"udp" || text.starts_with(b"udp (frag ") {
        return Decoded::UdpPortless;
    }
    // A later fragment in the words of tcpdump 3: "(frag 123:528@1480)".
    if after(text, b"(frag ")
        .and_then(|at| after(at, b"@"))
        .and_then(leading)
        .is_some_and(|offset| offset > 0)
    {
        return Decoded::UdpPortless;
    }
    if !ports {
        // An inner packet under -e: two ends without "IP" before them.
        return if super::line::Ends::split(text).is_some() { Decoded::Inner(text) } else { Decoded::Other };
    }
    let sure = text.starts_with(b"udp ");
    Decoded::Udp { length: payload_length(text), checksum: Sum::Untold, sure }.or_vxlan(text)
}

impl Decoded<'_> {
    fn or_vxlan(self, text: &[u8]) -> Self {
        if text.starts_with(b"VXLAN, ") { Decoded::Vxlan } else { self }
    }
}

/// "[udp sum ok] ", "[bad udp cksum 0x1234 -> 0x5678!] ", "[no cksum] ", and what follows.
fn udp_checksum(text: &[u8]) -> Option<(Sum, &[u8])> {
    for fine in [&b"[udp sum ok]"[..], b"[no cksum]"] {
        if let Some(rest) = text.strip_prefix(fine) {
            return Some((Sum::Fine, rest.trim_ascii_start()));
        }
    }
    let bad = text.strip_prefix(b"[bad udp cksum ")?;
    let rest = after(bad, b"] ").unwrap_or(b"");
    let digits =
        bad.strip_prefix(b"0x").and_then(|digits| digits.get(..4)).filter(|_| after(bad, b" -> ").is_some());
    let sum = digits.and_then(|digits| u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    Some((Sum::Bad(sum), rest))
}

/// TCP as tcpdump 3 has it: "S 1:1(0) win 5840", ". ack 1 win 5840", "R 1:1(0)".
fn is_old_tcp(text: &[u8]) -> bool {
    let flags = text.iter().take_while(|flag| b"SFPRWEU.".contains(flag)).count();
    if !(1..=8).contains(&flags) {
        return false;
    }
    let rest = &text[flags..];
    let Some(rest) = rest.strip_prefix(b" ") else { return rest.is_empty() };
    rest.first().is_none_or(u8::is_ascii_digit)
        || begins(rest, &[b"ack ", b"win ", b"[", b"cksum", b"tcp"])
        || [&b"ack "[..], b"win "].iter().any(|word| word.starts_with(rest))
}

/// "frag (0|1448) 1234 > 53: UDP, …", "HBH 1234 > 53: UDP, …".
fn behind_extensions(text: &[u8]) -> Decoded<'_> {
    // "frag (1448|560)", "frag (0x00000001:1448|560)"
    if let Some(fragment) = after(text, b"frag (") {
        let offset = after(fragment, b":").filter(|_| fragment.starts_with(b"0x")).unwrap_or(fragment);
        if leading(offset) != Some(0) {
            return Decoded::UdpPortless;
        }
    }
    let Some(arrow) = text.windows(3).position(|part| part == b" > ") else {
        return match after(text, b"ICMP6, ") {
            Some(said) => Decoded::Icmp(icmp::v6(said)),
            None => Decoded::Other,
        };
    };
    let start = text[..arrow].iter().rposition(|byte| *byte == b' ').map_or(0, |at| at + 1);
    Decoded::Behind(&text[start..])
}

/// " length 6", " length: 6", " bad length 1992 > 1472".
fn told_length(told: &[u8]) -> Option<u16> {
    let length = after(told, b"length")?;
    let digits = length.iter().position(u8::is_ascii_digit)?;
    u16::try_from(leading(&length[digits..])?).ok()
}

/// Bytes of payload where a printer tells them.
fn payload_length(text: &[u8]) -> Option<u16> {
    if let Some(told) = text.strip_prefix(b"UDP,") {
        return told_length(told);
    }
    if let Some(length) = text.strip_prefix(b"udp ") {
        return u16::try_from(leading(length)?).ok();
    }
    if begins(text, WITH_LENGTH) {
        return told_length(text);
    }
    // DNS: "12345+ A? example.org. (29)".
    if text[..].first().is_some_and(u8::is_ascii_digit)
        && let Some(open) = text.iter().rposition(|byte| *byte == b'(')
        && let Some(length) = text[open + 1..].strip_suffix(b")")
        && length.iter().all(u8::is_ascii_digit)
    {
        return u16::try_from(leading(length)?).ok();
    }
    None
}

/// The length of the payload: what the printer tells or, with `-v`, what IP's header leaves.
pub(crate) fn length(told: Option<u16>, header: Option<&Header>) -> Option<u16> {
    let whole = |header: &&Header| !header.more_fragments;
    told.or_else(|| header.filter(whole)?.payload?.checked_sub(8))
}
