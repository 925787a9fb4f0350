//! How the conversation table keeps things: small, and without memory that doubles as it grows.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Index, IndexMut};

/// No place in a [`Chunks`].
pub(super) const NOWHERE: u32 = u32::MAX;

/// An IP address, those of IPv4 as `::ffff:a.b.c.d`, which no packet has on the wire (RFC 4291, 2.5.5.2).
pub(super) type Address = [u8; 16];

pub(super) fn packed(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

pub(super) fn unpacked(address: Address) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

/// Multicast or broadcast. Whether an address that ends in 255 is its subnet's, the wire does not tell.
fn is_group(address: Address) -> bool {
    match unpacked(address) {
        IpAddr::V4(address) => {
            address.is_multicast() || address.octets()[3] == Ipv4Addr::BROADCAST.octets()[3]
        }
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// An address and a port in 18 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) address: Address,
    pub(super) port: u16,
}

impl End {
    pub(super) fn is_group(self) -> bool {
        is_group(self.address)
    }
}

impl From<SocketAddr> for End {
    fn from(address: SocketAddr) -> Self {
        Self { address: packed(address.ip()), port: address.port() }
    }
}

impl From<End> for SocketAddr {
    fn from(end: End) -> Self {
        Self::new(unpacked(end.address), end.port)
    }
}

impl Hash for End {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Not byte by byte: this is done twice for every packet.
        state.write_u128(u128::from_ne_bytes(self.address));
        state.write_u16(self.port);
    }
}

/// When and where something was seen, in 20 bytes: a time of 64 bits, `order` and `number` of 48 each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp([u32; 5]);

#[expect(clippy::cast_possible_truncation, reason = "the halves of a number are meant")]
impl Stamp {
    const NO_TIME: u64 = u64::MAX;

    pub(super) fn new(order: u64, time_ns: Option<u64>, number: u64) -> Self {
        let time = time_ns.unwrap_or(Self::NO_TIME);
        let high = (order >> 32 & 0xffff) << 16 | (number >> 32 & 0xffff);
        Self([time as u32, (time >> 32) as u32, order as u32, number as u32, high as u32])
    }

    pub(super) fn time_ns(self) -> Option<u64> {
        let time = u64::from(self.0[1]) << 32 | u64::from(self.0[0]);
        (time != Self::NO_TIME).then_some(time)
    }

    pub(super) fn order(self) -> u64 {
        u64::from(self.0[4] >> 16) << 32 | u64::from(self.0[2])
    }

    pub(super) fn number(self) -> u64 {
        u64::from(self.0[4] & 0xffff) << 32 | u64::from(self.0[3])
    }
}

/// How often one source saw something, first and last.
#[derive(Clone, Copy, Debug)]
#[repr(C)] // so that what does not change comes last
pub(super) struct Count {
    pub(super) last: Stamp,
    /// 0 where nothing was seen; more than can be counted stays at the end.
    pub(super) times: u32,
    pub(super) source: u16,
    /// The longest payload, in bytes.
    pub(super) largest: u16,
    pub(super) first: Stamp,
}

impl Count {
    pub(super) fn none() -> Self {
        let stamp = Stamp::new(0, None, 0);
        Self { first: stamp, last: stamp, times: 0, source: 0, largest: 0 }
    }

    pub(super) fn one(source: u16, stamp: Stamp, length: u16) -> Self {
        Self { first: stamp, last: stamp, times: 1, source, largest: length }
    }

    pub(super) fn add(&mut self, stamp: Stamp, length: u16) {
        self.times = self.times.saturating_add(1);
        self.last = stamp;
        self.largest = self.largest.max(length);
    }

    /// The one that counted more, or of equals the one that began earlier.
    pub(super) fn more(self, other: Self) -> Self {
        let better = other.times > self.times
            || (other.times == self.times && other.first.order() < self.first.order());
        if better { other } else { self }
    }
}

/// A vector that grows by pieces of equal size: nothing is ever copied, nor twice there while it grows.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    const BITS: u32 = 10;
    const LENGTH: usize = 1 << Self::BITS;

    pub(super) fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, whole)) => whole.len() * Self::LENGTH + last.len(),
            None => 0,
        }
    }

    /// Returns its place. `None`, and it is not kept: there are `most` already.
    pub(super) fn push(&mut self, one: T, most: u32) -> Option<u32> {
        let place = u32::try_from(self.len()).ok().filter(|place| *place < most)?;
        match self.chunks.last_mut() {
            Some(last) if last.len() < Self::LENGTH => last.push(one),
            _ => {
                let mut chunk = Vec::with_capacity(Self::LENGTH);
                chunk.push(one);
                self.chunks.push(chunk);
            }
        }
        Some(place)
    }

    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.chunks.get((place >> Self::BITS) as usize)?.get(place as usize & (Self::LENGTH - 1))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten())
    }
}

impl<T> Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, place: u32) -> &T {
        &self.chunks[(place >> Self::BITS) as usize][place as usize & (Self::LENGTH - 1)]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.chunks[(place >> Self::BITS) as usize][place as usize & (Self::LENGTH - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_gives_back_what_it_was_given() {
        for (order, time, number) in [(0, None, 1), (0xffff_ffff_ffff, Some(u64::MAX - 1), 0xabcd_1234_5678)]
        {
            let stamp = Stamp::new(order, time, number);
            assert_eq!((stamp.order(), stamp.time_ns(), stamp.number()), (order, time, number));
        }
    }

    #[test]
    fn an_end_gives_back_the_address() {
        for text in ["1.2.3.4:5", "[fd00::1]:53", "[::1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(End::from(address)), address);
        }
    }

    #[test]
    fn chunks_keep_everything_in_its_place() {
        let mut chunks = Chunks::new();
        for number in 0..3000 {
            assert_eq!(chunks.push(number, 2999), (number < 2999).then_some(number));
        }
        assert_eq!(chunks.len(), 2999);
        assert!(chunks.iter().all(|(place, number)| place == *number && chunks[place] == *number));
        assert_eq!(chunks.get(2999), None);
    }
}
