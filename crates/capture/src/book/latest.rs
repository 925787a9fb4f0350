//! What went on last, remarkable or not: for whoever watches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use super::Book;
use super::compact::Count;

/// A conversation in which something was seen lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Who asked.
    pub client: SocketAddr,
    /// Who was asked.
    pub server: SocketAddr,
    /// Datagrams from the client, as the first source counted them.
    pub requests: u64,
    /// Datagrams to the client.
    pub replies: u64,
    /// When the last of them was seen, in nanoseconds since the epoch.
    pub last_ns: Option<u64>,
}

impl Book {
    /// How many messages were taken.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.order
    }

    /// The conversations with the latest datagrams, the latest first, at most `most`.
    #[must_use]
    pub fn latest(&self, most: usize) -> Vec<Latest> {
        let most = most.min(self.len());
        let mut best: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::with_capacity(most + 1);
        for (place, record) in self.records.iter() {
            let order = [record.requests, record.replies].iter().filter_map(last_order).max();
            if let Some(order) = order {
                best.push(Reverse((order, place)));
                if best.len() > most {
                    best.pop();
                }
            }
        }
        best.into_sorted_vec()
            .into_iter()
            .map(|Reverse((_, place))| {
                let record = &self.records[place];
                let last = [record.requests, record.replies].into_iter().max_by_key(last_order);
                Latest {
                    client: record.client.into(),
                    server: record.server.into(),
                    requests: record.requests.times.into(),
                    replies: record.replies.times.into(),
                    last_ns: last.and_then(|count| count.last.time_ns()),
                }
            })
            .collect()
    }
}

fn last_order(count: &Count) -> Option<u64> {
    (count.times > 0).then(|| count.last.order())
}
