//! Port names to numbers: what tcpdump without `-n` made of the numbers, undone.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// IANA's names, which most systems' services(5) use too.
static IANA: LazyLock<HashMap<&'static [u8], u16>> = LazyLock::new(|| {
    let lines = include_str!("services.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, port)| (name.as_bytes(), number(port)))
        .collect()
});

fn number(port: &str) -> u16 {
    port.parse().expect("services.txt holds a port number behind each name")
}

/// UDP port names: IANA's, and those of a services(5) file that take their place.
#[derive(Clone, Debug, Default)]
pub struct Services {
    own: HashMap<Vec<u8>, u16>,
}

impl Services {
    /// Names that are taken from one services(5) file at most.
    pub const LIMIT: usize = 65_536;

    /// IANA's names, and before them those of a services(5) file: its lines are `name port/udp …`. What
    /// cannot be read in it is passed over; of one name's several ports the first counts.
    #[must_use]
    pub fn with(services: &str) -> Self {
        let mut own = HashMap::new();
        for line in services.lines().take(Self::LIMIT) {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            if let (Some(name), Some((port, "udp"))) =
                (words.next(), words.next().and_then(|at| at.split_once('/')))
                && let Ok(port) = port.parse()
            {
                own.entry(name.as_bytes().to_vec()).or_insert(port);
            }
        }
        Self { own }
    }

    /// The UDP port of that name.
    #[must_use]
    pub fn port(&self, name: &[u8]) -> Option<u16> {
        let known = |name: &[u8]| self.own.get(name).or_else(|| IANA.get(name)).copied();
        // Names in the registry are of either case; services(5) mostly has small letters.
        known(name).or_else(|| known(&lower(name)))
    }
}

fn lower(name: &[u8]) -> Cow<'_, [u8]> {
    if name.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_registry_and_of_the_file() {
        let services = Services::default();
        for (name, port) in
            [("rrac", 5678), ("domain", 53), ("mdns", 5353), ("ntp", 123), ("route", 520), ("DOMAIN", 53)]
        {
            assert_eq!(services.port(name.as_bytes()), Some(port), "{name}");
        }
        assert_eq!(services.port(b"no-such-service"), None);
        assert_eq!(services.port(b"x11"), None, "63 ports have that name");

        let services =
            Services::with("# mine\ngame 27960/udp q3 # x\ndomain 5300/udp\nweb 80/tcp\nbad 99999/udp\n");
        assert_eq!(services.port(b"game"), Some(27960));
        assert_eq!(services.port(b"domain"), Some(5300));
        assert_eq!(services.port(b"web"), None);
        assert_eq!(services.port(b"bad"), None);
        assert_eq!(services.port(b"ntp"), Some(123));
    }
}
