//! The datagrams of late: whose an ICMP error is, when its line does not tell all of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

/// What was sent between hosts of late. Of bounded size: the oldest hosts are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pairs: Aging<(IpAddr, IpAddr), Pair>,
    senders: Aging<IpAddr, Sender>,
    last: Option<(SocketAddr, SocketAddr)>,
}

/// The last conversations from one host to another: (source port, destination port), the latest at the end.
#[derive(Debug, Default)]
struct Pair {
    flows: [(u16, u16); Pair::FLOWS],
    used: usize,
    /// Something else than UDP was the last between them.
    other: bool,
}

impl Pair {
    const FLOWS: usize = 16;
}

/// What one host sent.
#[derive(Debug)]
struct Sender {
    flow: (SocketAddr, SocketAddr),
    several: bool,
    other: bool,
}

/// What a host sent of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// UDP, in one conversation only.
    One(SocketAddr, SocketAddr),
    /// UDP, in several conversations.
    Several,
    /// Nothing that is known of, or something else than UDP was the last.
    Unknown,
}

impl Recent {
    /// A datagram was seen.
    pub(crate) fn datagram(&mut self, source: SocketAddr, destination: SocketAddr) {
        if self.last.replace((source, destination)) == Some((source, destination)) {
            return;
        }
        let pair = self.pairs.entry((source.ip(), destination.ip()), Pair::default);
        let flow = (source.port(), destination.port());
        pair.other = false;
        let known = pair.flows[..pair.used].iter().position(|&known| known == flow);
        if known.is_none() && pair.used < Pair::FLOWS {
            pair.flows[pair.used] = flow;
            pair.used += 1;
        } else {
            pair.flows[known.unwrap_or(0)..pair.used].rotate_left(1);
            pair.flows[pair.used - 1] = flow;
        }
        let flow = (source, destination);
        let sender = self.senders.entry(source.ip(), || Sender { flow, several: false, other: false });
        sender.several |= sender.flow != flow;
        sender.other = false;
    }

    /// Something else than UDP was seen between two hosts.
    pub(crate) fn other(&mut self, source: IpAddr, destination: IpAddr) {
        self.last = None;
        if let Some(pair) = self.pairs.get_mut(&(source, destination)) {
            pair.other = true;
        }
        if let Some(sender) = self.senders.get_mut(&source) {
            sender.other = true;
        }
    }

    /// Whether nothing was seen yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.senders.young.is_empty()
    }

    /// The source port of the latest datagram from one host to a port of another.
    pub(crate) fn source_port(&mut self, source: IpAddr, destination: SocketAddr) -> Option<u16> {
        let pair = self.pairs.get_mut(&(source, destination.ip()))?;
        let to_port = |flow: &&(u16, u16)| flow.1 == destination.port();
        pair.flows[..pair.used].iter().rev().find(to_port).map(|flow| flow.0)
    }

    /// The ports of the latest packet from one host to another, if that was a datagram.
    pub(crate) fn ports(&mut self, source: IpAddr, destination: IpAddr) -> Option<(u16, u16)> {
        let pair = self.pairs.get_mut(&(source, destination)).filter(|pair| !pair.other)?;
        pair.flows[..pair.used].last().copied()
    }

    /// What a host sent.
    pub(crate) fn sent(&mut self, source: IpAddr) -> Sent {
        match self.senders.get_mut(&source) {
            Some(Sender { other: false, several: false, flow }) => Sent::One(flow.0, flow.1),
            Some(Sender { other: false, several: true, .. }) => Sent::Several,
            _ => Sent::Unknown,
        }
    }
}

/// A map that forgets: when the young half is full, the old one goes.
#[derive(Debug)]
struct Aging<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Aging<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy, V> Aging<K, V> {
    const HALF: usize = 16_384;

    fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if self.young.len() >= Self::HALF && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        let Self { young, old } = self;
        young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or_else(new))
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.young.get_mut(key).or_else(|| self.old.get_mut(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    #[test]
    fn the_latest_counts() {
        let mut recent = Recent::default();
        for port in [1000, 1001, 1002, 1001] {
            recent.datagram(at(1, port), at(2, 53));
        }
        recent.datagram(at(1, 7), at(2, 123));
        assert_eq!(recent.source_port(at(1, 0).ip(), at(2, 53)), Some(1001));
        assert_eq!(recent.source_port(at(1, 0).ip(), at(2, 54)), None);
        assert_eq!(recent.source_port(at(3, 0).ip(), at(2, 53)), None);
        assert_eq!(recent.ports(at(1, 0).ip(), at(2, 0).ip()), Some((7, 123)));
        assert_eq!(recent.sent(at(1, 0).ip()), Sent::Several);
        recent.other(at(1, 0).ip(), at(2, 0).ip());
        assert_eq!(recent.ports(at(1, 0).ip(), at(2, 0).ip()), None);
        assert_eq!(recent.sent(at(1, 0).ip()), Sent::Unknown);
        assert_eq!(recent.source_port(at(1, 0).ip(), at(2, 53)), Some(1001), "a named port is enough");
        recent.datagram(at(9, 7), at(2, 123));
        assert_eq!(recent.sent(at(9, 0).ip()), Sent::One(at(9, 7), at(2, 123)));
    }

    #[test]
    fn ports_and_hosts_are_bounded() {
        let mut recent = Recent::default();
        for port in 0..100 {
            recent.datagram(at(1, 5), at(2, port));
        }
        assert_eq!(recent.source_port(at(1, 0).ip(), at(2, 99)), Some(5));
        assert_eq!(recent.source_port(at(1, 0).ip(), at(2, 0)), None, "forgotten");
        for host in 0..100_000_u32 {
            recent.datagram(SocketAddr::from((host.to_be_bytes(), 1)), at(2, 2));
        }
        let half = Aging::<IpAddr, Sender>::HALF;
        assert!(recent.pairs.young.len() + recent.pairs.old.len() <= 2 * half);
        assert!(recent.senders.young.len() + recent.senders.old.len() <= 2 * half);
        assert_eq!(recent.sent(at(1, 0).ip()), Sent::Unknown);
    }
}
