//! The two ends on a packet's line: hosts by address or by name, with or without a port.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP version of a line, where the line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A host as the line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host<'a> {
    Address(IpAddr),
    Name(&'a [u8]),
}

/// A port as the line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port<'a> {
    Number(u16),
    Name(&'a [u8]),
}

impl Host<'_> {
    /// An address, or what can be a host's name. Digits and dots alone are an address or nothing.
    pub(crate) fn parse(token: &[u8]) -> Option<Host<'_>> {
        if let Some((address, b"")) = ipv4(token) {
            return Some(Host::Address(address.into()));
        }
        if token.contains(&b':') {
            // The longest textual form has 45 characters.
            let text = std::str::from_utf8(token.get(..token.len().min(46))?).ok()?;
            return text.parse::<Ipv6Addr>().ok().map(|address| Host::Address(address.into()));
        }
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let name = token.len() <= 255
            && token.iter().all(plain)
            && token.iter().any(u8::is_ascii_alphabetic)
            && (token[0].is_ascii_alphanumeric() || token[0] == b'_')
            && !token.windows(2).any(|pair| pair == b"..");
        name.then_some(Host::Name(token))
    }

    /// The version, if it is an address.
    pub(crate) const fn family(&self) -> Option<Family> {
        match self {
            Host::Address(IpAddr::V4(_)) => Some(Family::V4),
            Host::Address(IpAddr::V6(_)) => Some(Family::V6),
            Host::Name(_) => None,
        }
    }
}

/// An IPv4 address at the start of the text, and what follows it.
fn ipv4(text: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let mut octets = [0; 4];
    let mut rest = text;
    for (index, octet) in octets.iter_mut().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let digits = rest.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        *octet = u8::try_from(number(&rest[..digits])?).ok()?;
        rest = &rest[digits..];
    }
    Some((octets.into(), rest))
}

/// A decimal number of at most nine digits.
pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |value, &byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

impl Port<'_> {
    pub(crate) fn parse(token: &[u8]) -> Option<Port<'_>> {
        if token.first()?.is_ascii_digit() && token.iter().all(u8::is_ascii_digit) {
            return u16::try_from(number(token)?).ok().map(Port::Number);
        }
        let plain =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'*' | b'/');
        (token.len() <= 64 && token.iter().all(plain)).then_some(Port::Name(token))
    }
}

/// `host.port`: split at the last dot.
pub(crate) fn with_port(token: &[u8]) -> Option<(Host<'_>, Port<'_>)> {
    if let Some((address, rest)) = ipv4(token)
        && let Some(port) = rest.strip_prefix(b".")
        && !port.contains(&b'.')
    {
        return Some((Host::Address(address.into()), Port::parse(port)?));
    }
    let dot = token.iter().rposition(|&byte| byte == b'.')?;
    Some((Host::parse(&token[..dot])?, Port::parse(&token[dot + 1..])?))
}

/// The names of hosts, and the addresses that stand for them: of 240.0.0.0/4 and `100::/64`, by a hash of the
/// name, so that the same name has the same address in every text.
#[derive(Debug, Default)]
pub(crate) struct Names {
    of: HashMap<IpAddr, Box<str>>,
}

impl Names {
    /// The most names that are kept.
    pub(crate) const LIMIT: usize = 65_536;
    /// How many addresses are tried for a name whose own is another's.
    const TRIES: u64 = 16;

    /// The address that stands for a host; `None` when there are too many names.
    pub(crate) fn address(&mut self, host: Host<'_>, family: Family) -> Option<IpAddr> {
        let name = match host {
            Host::Address(address) => return Some(address),
            Host::Name(name) => name,
        };
        for address in candidates(name, family) {
            match self.of.get(&address) {
                Some(known) if known.as_bytes().eq_ignore_ascii_case(name) => return Some(address),
                Some(_) => {}
                None if self.of.len() == Self::LIMIT => return None,
                None => {
                    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                    self.of.insert(address, name.into_boxed_str());
                    return Some(address);
                }
            }
        }
        None
    }

    /// The same, of names that are known already.
    pub(crate) fn known(&self, host: Host<'_>, family: Family) -> Option<IpAddr> {
        match host {
            Host::Address(address) => Some(address),
            Host::Name(name) => candidates(name, family)
                .find(|at| self.of.get(at).is_some_and(|known| known.as_bytes().eq_ignore_ascii_case(name))),
        }
    }

    /// All of them, by address.
    pub(crate) fn all(&self) -> Vec<(IpAddr, String)> {
        let mut all: Vec<_> = self.of.iter().map(|(address, name)| (*address, name.to_string())).collect();
        all.sort_unstable();
        all
    }
}

/// The addresses that may stand for a name, the first first.
fn candidates(name: &[u8], family: Family) -> impl Iterator<Item = IpAddr> {
    // FNV-1a, 64 bits.
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    });
    (0..Names::TRIES).map(move |step| {
        let hash = hash.wrapping_add(step);
        match family {
            Family::V4 => {
                // All but 255.255.255.255, which is every host.
                let [.., a, b, c, d] = ((hash ^ (hash >> 32)) % 0x0fff_ffff).to_be_bytes();
                IpAddr::from([0xf0 | a, b, c, d])
            }
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(0x0100 << 112 | u128::from(hash))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(address: &str) -> Host<'static> {
        Host::Address(address.parse().unwrap())
    }

    #[test]
    fn hosts_and_ports_are_split_at_the_last_dot() {
        for (token, host, port) in [
            ("10.0.0.1.53", numeric("10.0.0.1"), Port::Number(53)),
            ("10.0.0.1.domain", numeric("10.0.0.1"), Port::Name(b"domain")),
            ("fe80::1.5353", numeric("fe80::1"), Port::Number(5353)),
            ("::ffff:1.2.3.4.53", numeric("::ffff:1.2.3.4"), Port::Number(53)),
            ("::.53", numeric("::"), Port::Number(53)),
            ("localhost.53", Host::Name(b"localhost"), Port::Number(53)),
            ("ns-1.example.org.domain", Host::Name(b"ns-1.example.org"), Port::Name(b"domain")),
            ("_gateway.67", Host::Name(b"_gateway"), Port::Number(67)),
        ] {
            assert_eq!(with_port(token.as_bytes()), Some((host, port)), "{token}");
        }
        for token in [
            "10.0.0.1",
            "10.0.0.256.1",
            "10.0.0.1.65536",
            "1.2.3",
            "fe80::1",
            "",
            ".",
            "x.",
            ".5",
            "a..b.5",
            "a\x07.5",
        ] {
            assert_eq!(with_port(token.as_bytes()), None, "{token}");
        }
    }

    #[test]
    fn a_name_has_one_address_and_no_two_names_share_it() {
        let mut names = Names::default();
        let one = names.address(Host::Name(b"host.example"), Family::V4).unwrap();
        assert_eq!(names.address(Host::Name(b"HOST.example"), Family::V4), Some(one));
        assert_eq!(
            Names::default().address(Host::Name(b"host.example"), Family::V4),
            Some(one),
            "in each text"
        );
        let six = names.address(Host::Name(b"host.example"), Family::V6).unwrap();
        assert!(six.to_string().starts_with("100::"), "{six}");
        assert_eq!(names.known(Host::Name(b"other"), Family::V4), None);
        assert_eq!(names.all(), [(one, "host.example".to_string()), (six, "host.example".to_string())]);
        for index in names.all().len()..Names::LIMIT {
            assert!(names.address(Host::Name(format!("h{index}").as_bytes()), Family::V4).is_some());
        }
        assert_eq!(names.address(Host::Name(b"too-many"), Family::V4), None);
        assert_eq!(names.all().len(), Names::LIMIT);
        assert!(names.all().iter().all(|(at, _)| !matches!(at, IpAddr::V4(at) if at.octets()[0] < 240)));
    }
}
