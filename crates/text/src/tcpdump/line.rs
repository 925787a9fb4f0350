//! A line taken apart: what stands before the packet, IP's header in parentheses, the two ends.

use super::clock::{self, Time};
use super::ends::{Family, Host, Port, number, with_port};

/// A line that tells of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Its time, if it has one.
    pub(crate) time: Option<Time>,
    /// Whether blanks stand before it.
    pub(crate) indented: bool,
    /// What follows.
    pub(crate) what: What<'a>,
}

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// An IP packet, as "IP" or a link header says: the text behind that.
    Ip(Option<Family>, &'a [u8]),
    /// Two ends without "IP" before them: continued from the line before (`-v`), or of an old tcpdump.
    Bare(&'a [u8]),
    /// A packet that carries another, told of on the next line: MPLS with `-v`.
    Ahead,
    /// A packet of something else.
    Other,
}

/// What tcpdump writes behind the time of packets that are not IP's.
const OTHERS: &[&[u8]] = &[
    b"ARP,",
    b"arp",
    b"RARP,",
    b"rarp",
    b"STP",
    b"802.1d",
    b"802.1D",
    b"802.1w",
    b"LLDP,",
    b"CDPv1,",
    b"CDPv2,",
    b"EAPOL",
    b"EAP",
    b"IPX",
    b"IS-IS,",
    b"LACPv1,",
    b"MPLS",
    b"PPPoE",
    b"AARP",
    b"LLC,",
    b"Loopback,",
    b"DTPv1,",
    b"UDLDv1,",
    b"VTPv1,",
    b"VTPv2,",
    b"BATADV",
    b"MACSEC,",
    b"PTPv2,",
    b"[|ether]",
    b"[|llc]",
    b"[|sll]",
    b"LCP,",
    b"IPCP,",
    b"ethertype",
];

/// Words that a line may have between its start and the time, and between the time and "IP".
const WORDS_BEFORE: usize = 12;

/// What a line tells of; `None`: of no packet.
pub(crate) fn read(line: &[u8]) -> Option<Line<'_>> {
    let indented = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    let mut time = None;
    let mut midnight = None;
    // Words since the start or the time, and whether they are only numbers, bullets and quotation marks.
    let (mut words, mut plain, mut at) = (0, true, 0);
    let found = |time, what| Some(Line { time, indented, what });
    while let Some((start, end)) = word(line, at) {
        // What a terminal shows of the interrupt that ended the program before.
        let this = line[start..end].strip_prefix(b"^C").unwrap_or(&line[start..end]);
        at = end;
        if words == WORDS_BEFORE {
            return None;
        }
        if let Some(stamp) = clock::time(this) {
            time = Some(match (stamp, midnight.take()) {
                (Time::OfDay { ns, .. }, Some(midnight)) => Time::Epoch(midnight + ns),
                // tcpdump puts one blank before the relative times of -ttt and -ttttt.
                (Time::OfDay { ns, .. }, None) => {
                    Time::OfDay { ns, relative: start == 1 && this.starts_with(b"00:") }
                }
                (stamp, _) => stamp,
            });
            (words, plain) = (0, true);
            continue;
        }
        words += 1;
        let rest = line[end..].trim_ascii_start();
        let direct = words == 1 && time.is_some();
        if let (true, Some(after)) = (direct && this == b"rule", behind_rule(line, end)) {
            (words, at) = (0, after);
            continue;
        }
        match this {
            // PPP's link header.
            b"IP" | b"IP6" if time.is_some() && rest.starts_with(b"(0x") => {
                return found(time, nested(&line[start..]));
            }
            b"IP" | b"IP6" | b"ip:" if (time.is_some() || plain) && is_packet(rest) => {
                let family = match this {
                    b"IP" => Some(Family::V4),
                    b"IP6" => Some(Family::V6),
                    _ => None,
                };
                return found(time, What::Ip(family, rest));
            }
            // The fields that follow belong to a dump of bytes.
            [b'0', b'x', ..] if words == 1 => return None,
            _ => {}
        }
        if (direct || (time.is_none() && plain)) && is_header(&line[start..]) {
            return found(time, What::Ip(Some(Family::V4), &line[start..]));
        }
        if time.is_some() || plain {
            let below_ip =
                is_mac(this) || (time.is_some() && matches!(this, b"AF" | b"ethertype" | b"family"));
            if below_ip && (rest.starts_with(b"> ") || time.is_some()) {
                return found(time, behind_link(&line[start..]));
            }
            if rest.starts_with(b"> ")
                && (direct || (time.is_none() && plain))
                && Ends::split(&line[start..]).is_some()
            {
                return found(time, What::Bare(&line[start..]));
            }
        }
        // Without a time they are within another packet, or of -t.
        if words == 1 && time.is_none() && matches!(this, b"ARP," | b"RARP," | b"LLDP,") {
            return found(time, What::Other);
        }
        if direct && (OTHERS.contains(&this) || rest.starts_with(b"> ") && is_link_name(this)) {
            let carries = matches!(this, b"MPLS" | b"PPPoE");
            return found(time, if carries { nested(rest) } else { What::Other });
        }
        midnight = clock::date(this).or(midnight);
        // In quotation marks or a call's arguments it is someone's text about a packet.
        if this.contains(&b'"') || (time.is_none() && this.contains(&b'(')) {
            return None;
        }
        plain &= !this.iter().any(u8::is_ascii_alphabetic) || is_direction(line, start, end);
    }
    None
}

/// Where pflog's words end: `rule 2/0(match): pass out on tun0: `.
fn behind_rule(line: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..WORDS_BEFORE {
        let (start, end) = word(line, at)?;
        at = end;
        if &line[start..end] == b"on" {
            return word(line, end).filter(|(_, end)| line[..*end].ends_with(b":")).map(|(_, end)| end);
        }
    }
    None
}

/// The next word from `at` on: where it starts and ends.
fn word(line: &[u8], at: usize) -> Option<(usize, usize)> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = at + line[at..].iter().position(|byte| !blank(byte))?;
    let end = line[start..].iter().position(blank).map_or(line.len(), |length| start + length);
    Some((start, end))
}

/// `eth0  In`: an interface and a direction, of `-i any`, or the direction itself.
fn is_direction(line: &[u8], start: usize, end: usize) -> bool {
    const DIRECTIONS: [&[u8]; 6] = [b"In", b"Out", b"B", b"M", b"P", b"R"];
    let next = word(line, end).map_or(&b""[..], |(start, end)| &line[start..end]);
    DIRECTIONS.contains(&next) || DIRECTIONS.contains(&&line[start..end])
}

/// Whether IP's text follows: a header in parentheses, ends, or what is wrong with them.
fn is_packet(text: &[u8]) -> bool {
    is_header(text) || text.starts_with(b"truncated-ip") || Ends::split(text).is_some()
}

/// Whether IP's header follows, in parentheses.
pub(crate) fn is_header(text: &[u8]) -> bool {
    const FIELDS: [&[u8]; 4] = [b"(tos ", b"(hlim ", b"(class ", b"(flowlabel "];
    FIELDS.iter().any(|field| text.starts_with(field))
}

fn is_mac(token: &[u8]) -> bool {
    let token = token.strip_suffix(b",").unwrap_or(token);
    token.len() == 17
        && token
            .iter()
            .enumerate()
            .all(|(at, byte)| if at % 3 == 2 { *byte == b':' } else { byte.is_ascii_hexdigit() })
}

/// Names that tcpdump without `-n` gives to link addresses.
fn is_link_name(token: &[u8]) -> bool {
    matches!(token, b"Broadcast" | b"0:0:0:0:0:0")
}

/// What follows a link header (`-e`).
fn behind_link(text: &[u8]) -> What<'_> {
    // "ethertype IPv4 (0x0800), length 76: ", "IPv4, length 76: " (-q), "vlan 5, p 0, ethertype IPv4 (0x0800), "
    let Some(at) = text.windows(4).position(|word| word == b"IPv4" || word == b"IPv6") else {
        return nested(text);
    };
    let family = if text[at + 3] == b'4' { Family::V4 } else { Family::V6 };
    let mut rest = &text[at + 4..];
    if let Some(number) = rest.strip_prefix(b" (") {
        rest = after(number, b")").unwrap_or(b"");
    }
    rest = rest.strip_prefix(b", ").unwrap_or(rest);
    if let Some(length) = rest.strip_prefix(b"length ") {
        rest = after(length, b": ").unwrap_or(b"");
    }
    let rest = rest.trim_ascii_start();
    if is_packet(rest) { What::Ip(Some(family), rest) } else { nested(text) }
}

/// IP within PPP, `PPPoE` or MPLS, whose headers are on the line: "… IP (0x0021), length 44: ", "… IP ".
fn nested(text: &[u8]) -> What<'_> {
    for (mark, family) in [(&b"IP "[..], Family::V4), (b"IP6 ", Family::V6)] {
        let mut rest = text;
        while let Some(next) = after(rest, mark) {
            rest = next;
            let inner = match next.strip_prefix(b"(0x") {
                Some(number) => match after(number, b": ") {
                    Some(inner) => inner,
                    None => break,
                },
                None => next,
            };
            if is_packet(inner) {
                return What::Ip(Some(family), inner);
            }
        }
    }
    // With -e there is no "IP" before the packet within: its addresses tell.
    for mark in [&b") "[..], b": "] {
        let mut rest = text;
        while let Some(next) = after(rest, mark) {
            rest = next;
            if Ends::split(next).is_some_and(|ends| ends.are_addresses()) {
                return What::Ip(None, next);
            }
        }
    }
    if text.ends_with(b")") && after(text, b"(label ").is_some() { What::Ahead } else { What::Other }
}

/// What follows the first `mark`.
pub(crate) fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(mark.len()).position(|part| part == mark)?;
    Some(&text[at + mark.len()..])
}

/// The number that the text starts with.
pub(crate) fn leading(text: &[u8]) -> Option<u32> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    number(&text[..end])
}

/// IP's header as `-v` prints it in parentheses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// It is a fragment and not the first.
    pub(crate) later_fragment: bool,
    /// More fragments follow.
    pub(crate) more_fragments: bool,
    /// Its protocol is UDP.
    pub(crate) udp: bool,
    /// Bytes of IP's payload; `None` with IP options, whose length is not told.
    pub(crate) payload: Option<u16>,
}

impl Header {
    /// The header at the start of the text, "(…)", and what follows it; if it is cut, nothing does.
    pub(crate) fn split(text: &[u8]) -> (Self, &[u8]) {
        let mut depth = 0_u32;
        let end = text.iter().position(|byte| {
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        });
        let (header, rest) = text.split_at(end.map_or(text.len(), |end| end + 1));
        (Self::parse(header), rest.trim_ascii_start())
    }

    fn parse(text: &[u8]) -> Self {
        let mut header = Self::default();
        let mut options = false;
        header.udp = after(text, b"UDP (17)").is_some();
        for field in text.split(|byte| *byte == b',') {
            let field = field.trim_ascii_start();
            if let Some(offset) = field.strip_prefix(b"offset ") {
                header.later_fragment = leading(offset).is_some_and(|offset| offset > 0);
            } else if let Some(flags) = field.strip_prefix(b"flags [") {
                header.more_fragments = flags.contains(&b'+');
            } else if field.starts_with(b"options (") {
                options = true;
            } else if let Some(length) = field.strip_prefix(b"length").or_else(|| field.strip_prefix(b"len "))
            {
                let total = leading(length.trim_start_with(|byte| byte == b':' || byte == b' '));
                header.payload = total.and_then(|total| u16::try_from(total.checked_sub(20)?).ok());
            } else if field.starts_with(b"next-header") || field.starts_with(b"payload length") {
                let length = after(field, b"payload length: ").and_then(leading);
                // Extension headers are part of IPv6's payload.
                let direct = field.starts_with(b"payload") || after(field, b"(17)").is_some();
                header.payload = length.filter(|_| direct).and_then(|length| u16::try_from(length).ok());
            }
        }
        if options {
            header.payload = None;
        }
        header
    }
}

trait TrimStartWith {
    fn trim_start_with(&self, unwanted: impl Fn(u8) -> bool) -> &[u8];
}

impl TrimStartWith for [u8] {
    fn trim_start_with(&self, unwanted: impl Fn(u8) -> bool) -> &[u8] {
        let start = self.iter().position(|&byte| !unwanted(byte)).unwrap_or(self.len());
        &self[start..]
    }
}

/// "source > destination: …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) destination: &'a [u8],
    /// What follows the colon; `None`: the line is cut before it, perhaps within the destination.
    pub(crate) rest: Option<&'a [u8]>,
}

impl<'a> Ends<'a> {
    /// `None`: this is not two ends.
    pub(crate) fn split(text: &'a [u8]) -> Option<Self> {
        let (start, end) = word(text, 0)?;
        let source = &text[start..end];
        let behind = text[end..].trim_ascii_start();
        let Some(behind) = behind.strip_prefix(b">") else { return Self::without_arrow(source, behind) };
        let (start, end) = word(behind, 0).unwrap_or((behind.len(), behind.len()));
        let token = &behind[start..end];
        let sound = |end: &[u8]| Host::parse(end).is_some() || with_port(end).is_some();
        if !sound(source) {
            return None;
        }
        match token.strip_suffix(b":") {
            Some(destination) if sound(destination) => {
                Some(Self { source, destination, rest: Some(behind[end..].trim_ascii_start()) })
            }
            // IPv6 addresses can end with a colon, and be cut there.
            _ if end == behind.len() && token.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',') => {
                Some(Self { source, destination: token, rest: None })
            }
            _ => None,
        }
    }

    /// Addresses alone tell that there are two ends where a web page took the arrow for a tag.
    fn without_arrow(source: &'a [u8], behind: &'a [u8]) -> Option<Self> {
        let (start, end) = word(behind, 0)?;
        let destination = behind[start..end].strip_suffix(b":")?;
        let rest = Some(behind[end..].trim_ascii_start());
        let ported = |end| matches!(with_port(end), Some((Host::Address(_), _)));
        let address = |end| matches!(Host::parse(end), Some(Host::Address(_)));
        let sound = (ported(source) && ported(destination)) || (address(source) && address(destination));
        sound.then_some(Self { source, destination, rest })
    }

    /// Both are addresses, with or without a port number.
    pub(crate) fn are_addresses(&self) -> bool {
        let address = |end| matches!(Host::parse(end), Some(Host::Address(_)));
        self.are_numbers() || (address(self.source) && address(self.destination))
    }

    /// Both are an address with a port number: no prose.
    pub(crate) fn are_numbers(&self) -> bool {
        [self.source, self.destination]
            .iter()
            .all(|end| matches!(with_port(end), Some((Host::Address(_), Port::Number(_)))))
    }
}
