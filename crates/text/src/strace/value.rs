//! Arguments as strace prints them: numbers, constants, strings, structures and socket addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One member of a list: `name=value`, or a value alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// Empty where there is none. What stands in parentheses behind it is left out: `msg_name(16)=`.
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

/// What is separated by commas, brackets and strings being whole.
pub(super) fn items(text: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let mut rest = Some(text);
    let mut closed = Closed::default();
    std::iter::from_fn(move || {
        let text = rest?.trim_ascii_start();
        if text.is_empty() {
            rest = None;
            return None;
        }
        // Where the item ends: at a comma, at a bracket that it did not open, or with the text.
        let end = scan(text, b',', &mut closed);
        rest = text.get(end + 1..);
        Some(item(text[..end].trim_ascii_end()))
    })
}

/// The first item of this name.
pub(super) fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    items(text).find(|item| item.name == name).map(|item| item.value)
}

fn item(text: &[u8]) -> Item<'_> {
    let letters = text.iter().take_while(|&&byte| is_word(byte)).count();
    let mut after = letters;
    if text.get(after) == Some(&b'(') {
        after += text[after..].iter().position(|&byte| byte == b')').map_or(0, |close| close + 1);
    }
    if letters > 0 && text.get(after) == Some(&b'=') {
        Item { name: &text[..letters], value: text[after + 1..].trim_ascii_start() }
    } else {
        Item { name: b"", value: text }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where the parenthesis that was opened just before `text` is closed.
pub(super) fn end_of_arguments(text: &[u8]) -> Option<usize> {
    let end = scan(text, b')', &mut Closed::default());
    (text.get(end) == Some(&b')')).then_some(end)
}

/// Whether comments and `<…>` of -y may still be closed. Where one is not, none behind it is: a line has room for
/// half a million of them, and to look for the end of each would take minutes.
struct Closed {
    comments: bool,
    annotations: bool,
}

impl Default for Closed {
    fn default() -> Self {
        Self { comments: true, annotations: true }
    }
}

/// The first `stop`, or closing bracket too many, outside brackets, strings, comments and `<…>` of -y.
fn scan(text: &[u8], stop: u8, closed: &mut Closed) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth > 0 => depth -= 1,
            _ if depth == 0 && (byte == stop || matches!(byte, b')' | b']' | b'}')) => return at,
            b'/' if closed.comments && text.get(at + 1) == Some(&b'*') => match after(text, at + 2, b"*/") {
                Some(end) => at = end,
                None => closed.comments = false,
            },
            b'<' if closed.annotations
                && at > 0
                && (text[at - 1].is_ascii_digit() || text[at - 1] == b'D') =>
            {
                match end_of_annotation(text, at) {
                    Some(end) => at = end,
                    None => closed.annotations = false,
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The quote that closes the string opened at `at`, or the text's last byte.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The last byte of the first `wanted` from `at` on.
fn after(text: &[u8], at: usize, wanted: &[u8]) -> Option<usize> {
    let found = text.get(at..)?.windows(wanted.len()).position(|window| window == wanted)?;
    Some(at + found + wanted.len() - 1)
}

/// The `>` that closes what -y prints behind a descriptor; the one in `->` stands between two addresses.
fn end_of_annotation(text: &[u8], at: usize) -> Option<usize> {
    (at + 1..text.len()).find(|&end| text[end] == b'>' && text[end - 1] != b'-')
}

/// What -y and -yy print behind a descriptor: `UDP:[0.0.0.0:53]`, `socket:[4711]`, a path.
pub(super) fn annotation(value: &[u8]) -> Option<&[u8]> {
    let start = value.iter().position(|byte| !byte.is_ascii_digit())?;
    (value[start] == b'<').then_some(())?;
    value.get(start + 1..end_of_annotation(value, start)?)
}

/// What stands inside the brackets with which `value` begins; also if the closing one is cut off.
pub(super) fn inside(value: &[u8]) -> Option<&[u8]> {
    let rest = match value.first()? {
        b'{' | b'[' | b'(' => &value[1..],
        _ => return None,
    };
    // Any comma outside brackets is passed over: only a closing bracket stops.
    Some(&rest[..scan(rest, b')', &mut Closed::default())])
}

/// The constant or number with which `value` begins.
pub(super) fn word(value: &[u8]) -> &[u8] {
    &value[..value.iter().take_while(|&&byte| is_word(byte)).count()]
}

/// The number with which `value` begins: decimal, hexadecimal or octal, as C writes them.
pub(super) fn number(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, word(rest)),
        None => (false, word(value)),
    };
    let text = std::str::from_utf8(digits).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16).ok()?,
        None if text.len() > 1 && text.starts_with('0') => i64::from_str_radix(text, 8).ok()?,
        None => text.parse().ok()?,
    };
    Some(if negative { -number } else { number })
}

/// Whether `value` is a constant, by one of its names or, with `-X raw`, by its number.
pub(super) fn is(value: &[u8], names: &[&[u8]], constant: i64) -> bool {
    let word = word(value);
    names.contains(&word) || (word.first().is_some_and(u8::is_ascii_digit) && number(word) == Some(constant))
}

/// Whether a flag is among those joined with `|`, or its bit in one that is a number.
pub(super) fn has_flag(value: &[u8], name: &[u8], bit: i64) -> bool {
    value
        .split(|&byte| byte == b'|')
        .map(<[u8]>::trim_ascii)
        .any(|flag| word(flag) == name || number(flag).is_some_and(|number| number & bit != 0))
}

/// The bytes of the first string in `value`, at most `limit` of them, its escapes undone.
pub(super) fn string(value: &[u8], limit: usize) -> Option<Vec<u8>> {
    let start = value.iter().position(|&byte| byte == b'"')?;
    let mut rest = value[start + 1..end_of_string(value, start)].iter().copied().peekable();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next().filter(|_| bytes.len() < limit) {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let escape = rest.next()?;
        let (radix, mut code, most) = match escape {
            b'x' => (16, 0, 2),
            b'0'..=b'7' => (8, u32::from(escape - b'0'), 2),
            _ => {
                bytes.push(match escape {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    other => other,
                });
                continue;
            }
        };
        for _ in 0..most {
            let Some(digit) = rest.peek().and_then(|&byte| char::from(byte).to_digit(radix)) else { break };
            code = code * radix + digit;
            rest.next();
        }
        bytes.push(u8::try_from(code & 0xff).unwrap_or_default());
    }
    Some(bytes)
}

/// The first string in `value` as an IP address: written out or, with `-X raw`, its bytes.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    let text = string(value, 64)?;
    let written = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    written.or_else(|| packed(&text))
}

/// What a `struct sockaddr` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sockaddr {
    /// `AF_INET` or `AF_INET6`.
    Inet(SocketAddr),
    /// `AF_UNSPEC`, with which connect(2) takes a peer back.
    Unspecified,
    /// Of another family.
    Other,
}

/// Reads a socket address; `None` if it is a pointer, or cut.
pub(super) fn sockaddr(value: &[u8]) -> Option<Sockaddr> {
    let members = inside(value)?;
    let (mut version, mut port, mut ip) = (None, None, None);
    for Item { name, value } in items(members) {
        match name {
            b"sa_family" if is(value, &[b"AF_INET", b"PF_INET"], 2) => version = Some(4),
            b"sa_family" if is(value, &[b"AF_INET6", b"PF_INET6"], 10) => version = Some(6),
            b"sa_family" if is(value, &[b"AF_UNSPEC"], 0) => return Some(Sockaddr::Unspecified),
            b"sa_family" => return Some(Sockaddr::Other),
            b"sin_port" | b"sin6_port" => port = port_number(value),
            b"sin_addr" | b"sin6_addr" => ip = address(value),
            b"" if value.starts_with(b"inet_pton(") => ip = address(value),
            _ => {}
        }
    }
    let ip: IpAddr = ip.filter(|ip| Some(if ip.is_ipv4() { 4 } else { 6 }) == version)?;
    Some(Sockaddr::Inet(SocketAddr::new(ip, port?)))
}

fn port_number(value: &[u8]) -> Option<u16> {
    match value.strip_prefix(b"htons(") {
        Some(digits) => number(digits)?.try_into().ok(),
        None => Some(u16::from_be_bytes(string(value, 3)?.try_into().ok()?)),
    }
}

fn packed(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_strings_brackets_comments_and_paths_whole() {
        let text = br#"3</a,b(>, "x,\"}", {a=1, b(2)={c}}, 0x1 /* A, B */|2, [1, 2]..., htons(5), "cut"#;
        let found: Vec<_> = items(text).map(|item| item.value).collect();
        let expected: [&[u8]; 7] = [
            b"3</a,b(>",
            br#""x,\"}""#,
            b"{a=1, b(2)={c}}",
            b"0x1 /* A, B */|2",
            b"[1, 2]...",
            b"htons(5)",
            b"\"cut",
        ];
        assert_eq!(found, expected);
        assert_eq!(field(inside(found[2]).unwrap(), b"b"), Some(&b"{c}"[..]));
    }

    #[test]
    fn the_end_of_what_is_never_closed_is_looked_for_once() {
        for opened in ["1<,", "/*,", "1</*,"] {
            let text = opened.repeat(200_000);
            assert_eq!(end_of_arguments(text.as_bytes()), None);
            assert_eq!(items(text.as_bytes()).count(), 200_000);
        }
    }

    #[test]
    fn a_socket_address_is_read_in_every_spelling() {
        let six = "[fe80::1]:53".parse().unwrap();
        for (text, expected) in [
            (&br#"{sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.2.3.4")}"#[..], "1.2.3.4:53"),
            (br#"{sa_family=0x2, sin_port="\x00\x35", sin_addr="\x01\x02\x03\x04"}"#, "1.2.3.4:53"),
            (
                br#"{sa_family=0x2 /* AF_INET */, sin_port="\0005", sin_addr="\1\2\3\4" /* inet_addr("x") */}"#,
                "1.2.3.4:53",
            ),
        ] {
            assert_eq!(sockaddr(text), Some(Sockaddr::Inet(expected.parse().unwrap())));
        }
        for text in [
            &br#"{sa_family=AF_INET6, sin6_port=htons(53), inet_pton(AF_INET6, "fe80::1", &sin6_addr), sin6_flowinfo=0}"#[..],
            br#"{sa_family=0xa, sin6_port="\x00\x35", sin6_addr="\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"}"#,
        ] {
            assert_eq!(sockaddr(text), Some(Sockaddr::Inet(six)));
        }
        assert_eq!(sockaddr(b"0x7fff"), None);
        assert_eq!(
            sockaddr(br#"{sa_family=AF_INET, sin_port=htons(70000), sin_addr=inet_addr("1.2.3.4")}"#),
            None
        );
        assert_eq!(sockaddr(br#"{sa_family=AF_UNIX, sun_path="/x"}"#), Some(Sockaddr::Other));
    }

    #[test]
    fn numbers_and_flags() {
        assert_eq!(number(b"-1 ECONN"), Some(-1));
        assert_eq!((number(b"0x20)"), number(b"010"), number(b"0")), (Some(32), Some(8), Some(0)));
        assert_eq!(number(b"99999999999999999999"), None);
        assert!(
            has_flag(b"MSG_PEEK|MSG_TRUNC", b"MSG_PEEK", 2) && has_flag(b"0x22 /* A|B */", b"MSG_PEEK", 2)
        );
        assert!(!has_flag(b"0", b"MSG_PEEK", 2));
        assert_eq!(annotation(b"3<UDP:[1.1.1.1:1->2.2.2.2:2]>, x"), Some(&b"UDP:[1.1.1.1:1->2.2.2.2:2]"[..]));
    }
}
