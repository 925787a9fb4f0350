//! What is remarkable in the table, when everything was read.

use std::net::SocketAddr;

use hashbrown::{HashMap, HashSet};

use super::compact::{Address, Count, End, NOWHERE, Stamp, unpacked};
use super::{
    Book, Conversation, Errors, Flow, Kind, Moment, REMEMBERED, Record, STRAYS, Spoiled, Way, roles,
};

/// The conversations in which anything is remarkable; iterate to have them one by one, in the order in which they
/// began.
///
/// Remarkable is an ICMP error, a stray, a wrong checksum, a lost fragment, and a request without a reply, unless
/// it went to a group; and whatever a client said that was to be kept ([`Book::keep`]).
#[derive(Debug)]
pub struct Remarkable<'a> {
    book: &'a Book,
    settled: Settled,
    places: std::vec::IntoIter<u32>,
    servers: HashMap<End, Answered>,
    hearing: HashMap<Address, bool>,
    /// Those for which there was no room: the ones that merely have no reply first.
    pub unjudged: u64,
}

/// Whose strays the strangers' datagrams are.
#[derive(Debug, Default)]
struct Settled {
    /// By the conversation that they belong to.
    strays: HashMap<u32, Vec<Unasked>>,
    /// Conversations whose client and server change places: they began as strays, before anything else of them
    /// was captured.
    turned: HashSet<u32>,
    /// Those of them which are now strays of another conversation.
    gone: HashSet<u32>,
}

/// A record that holds what a stranger sent to a client.
#[derive(Clone, Copy, Debug)]
struct Unasked {
    place: u32,
    client: End,
    source: End,
    way: Way,
}

/// Whom a server answered: the records of the few that it answered first, and of those that it answered last. So
/// for each client there are two others, if there are as many.
#[derive(Clone, Copy, Debug)]
struct Answered {
    first: [u32; 3],
    last: [u32; 3],
}

impl Answered {
    const NOBODY: Self = Self { first: [NOWHERE; 3], last: [NOWHERE; 3] };
}

impl Book {
    /// What is remarkable, at most `most` conversations.
    #[must_use]
    pub fn remarkable(&self, most: usize) -> Remarkable<'_> {
        let settled = self.settle();
        let spoiled: HashSet<u32> = self.spoiled.keys().map(|(place, ..)| *place).collect();
        let (mut places, mut unanswered) = (Vec::new(), Vec::new());
        let mut found: u64 = 0;
        for (place, record) in self.records.iter() {
            if record.stray || settled.gone.contains(&place) {
                continue;
            }
            let odd = record.errors != NOWHERE
                || settled.strays.contains_key(&place)
                || spoiled.contains(&place)
                || (!self.kept.is_empty() && self.kept.contains(&self.ends(place, &settled).0));
            let without_reply = !settled.turned.contains(&place)
                && record.requests.times > 0
                && record.replies.times == 0
                && !record.server.is_group();
            if odd || without_reply {
                found += 1;
                let list = if odd { &mut places } else { &mut unanswered };
                if list.len() < most {
                    list.push(place);
                }
            }
        }
        unanswered.truncate(most - places.len());
        places.append(&mut unanswered);
        places.sort_unstable();
        let (servers, hearing) = self.surroundings(&places, &settled);
        let unjudged = found - places.len() as u64 + self.without_room;
        Remarkable { book: self, settled, places: places.into_iter(), servers, hearing, unjudged }
    }

    /// Which servers of these conversations answered whom, and to which clients' addresses anything was captured.
    fn surroundings(
        &self,
        places: &[u32],
        settled: &Settled,
    ) -> (HashMap<End, Answered>, HashMap<Address, bool>) {
        let (mut servers, mut hearing) = (HashMap::new(), HashMap::new());
        for place in places {
            let (client, server) = self.ends(*place, settled);
            servers.insert(server, Answered::NOBODY);
            hearing.insert(client.address, false);
        }
        for (place, record) in self.records.iter() {
            for (way, receiver) in [(Way::Request, record.server), (Way::Reply, record.client)] {
                if record.flow(way).times > 0 {
                    hearing.entry(receiver.address).and_modify(|hears| *hears = true);
                }
            }
            if record.replies.times > 0 {
                servers.entry(record.server).and_modify(|answered| {
                    let replies = |place: u32| self.records.get(place).map(|record| record.replies);
                    insert(&mut answered.first, place, |other| {
                        replies(other).is_none_or(|other| record.replies.first.order() < other.first.order())
                    });
                    insert(&mut answered.last, place, |other| {
                        replies(other).is_none_or(|other| record.replies.last.order() > other.last.order())
                    });
                });
            }
        }
        (servers, hearing)
    }

    /// What a server answered to others than this client: to the one that it answered first, and to the last; and
    /// to a third where these are one.
    fn answers_to_others(&self, answered: Answered, client: End) -> impl Iterator<Item = u32> {
        let other = move |place: &u32| self.records.get(*place).is_some_and(|record| record.client != client);
        let first = answered.first.into_iter().find(other);
        let another = move |place: &u32| other(place) && Some(*place) != first;
        first.into_iter().chain(answered.last.into_iter().find(another))
    }

    /// Client and server.
    fn ends(&self, place: u32, settled: &Settled) -> (End, End) {
        let Record { client, server, .. } = self.records[place];
        if settled.turned.contains(&place) { (server, client) } else { (client, server) }
    }

    fn settle(&self) -> Settled {
        let mut settled = Settled::default();
        let mut all = Vec::new();
        for (place, record) in self.records.iter() {
            let (client, server) = (record.client, record.server);
            if record.stray {
                all.push(Unasked { place, client, source: server, way: Way::Reply });
            } else if record.replies.times == 0 {
                let unasked = Unasked { place, client: server, source: client, way: Way::Request };
                if self.origins(unasked).next().is_some() {
                    settled.turned.insert(place);
                    all.push(unasked);
                }
            }
        }
        let mut strangers: HashMap<End, u32> = HashMap::new();
        for unasked in &all {
            if self.records[unasked.place].flow(unasked.way).times > 0 {
                *strangers.entry(unasked.client).or_default() += 1;
            }
        }
        for unasked in all {
            let alone = strangers.get(&unasked.client) == Some(&1);
            if let Some(origin) = self.origin_of(unasked, alone, &settled.turned) {
                let strays = settled.strays.entry(origin).or_default();
                if strays.len() < STRAYS {
                    strays.push(unasked);
                    if unasked.way == Way::Request {
                        settled.gone.insert(unasked.place);
                    }
                }
            }
        }
        settled
    }

    /// The conversations that something unasked may be an answer in, the latest first. Those of a stray were
    /// there before it; a conversation that is one itself was there before them.
    fn origins(&self, unasked: Unasked) -> impl Iterator<Item = (u32, &Record)> {
        let Unasked { place, client, source, way } = unasked;
        self.asked_by(client).take(REMEMBERED).filter(move |(origin, record)| {
            roles::may_answer_for(source, client, record.server) && (way == Way::Request) == (*origin > place)
        })
    }

    /// The conversation that something unasked belongs to, if that can be known. `alone`: nobody else wrote to the
    /// client unasked.
    fn origin_of(&self, unasked: Unasked, alone: bool, turned: &HashSet<u32>) -> Option<u32> {
        let mut unanswered = self
            .origins(unasked)
            .filter(|(place, origin)| origin.replies.times == 0 && !turned.contains(place));
        let (latest, record) = unanswered.next()?;
        let flow = self.records[unasked.place].flow(unasked.way);
        if unasked.way == Way::Request && flow.last.order() < record.requests.first.order() {
            return None; // all of it was there before the request was
        }
        let certain =
            alone && unanswered.next().is_none() && self.asked_by(unasked.client).nth(REMEMBERED).is_none();
        (certain || self.was_refused(unasked)).then_some(latest)
    }

    /// Did the client's own host refuse it, with port unreachable?
    fn was_refused(&self, unasked: Unasked) -> bool {
        self.errors_of(unasked.place)
            .any(|kind| kind.way == unasked.way && kind.error.is_refusal_of(unasked.client))
    }

    fn errors_of(&self, place: u32) -> impl Iterator<Item = &Kind> {
        let mut next = self.records[place].errors;
        std::iter::from_fn(move || {
            let kind = self.errors.get(next)?;
            next = kind.next;
            Some(kind)
        })
    }

    /// What the source counted that saw most of a flow.
    fn flow(&self, place: u32, way: Way) -> Option<Flow> {
        let record = &self.records[place];
        let mut best = record.flow(way);
        if best.times == 0 {
            return None;
        }
        let spoiled_in = |source| self.spoiled.get(&(place, way, source)).copied().unwrap_or_default();
        let mut spoiled: Spoiled = spoiled_in(best.source);
        let mut next = record.further;
        while let Some(further) = self.further.get(next) {
            if further.way == way {
                let here = spoiled_in(further.count.source);
                spoiled.bad_checksums = spoiled.bad_checksums.max(here.bad_checksums);
                spoiled.lost_fragments = spoiled.lost_fragments.max(here.lost_fragments);
                best = best.more(further.count);
            }
            next = further.next;
        }
        Some(Flow {
            count: best.times.into(),
            first: moment(best, best.first),
            last: moment(best, best.last),
            largest: best.largest,
            bad_checksums: spoiled.bad_checksums,
            lost_fragments: spoiled.lost_fragments,
        })
    }

    /// Adds the errors of a record, each kind as often as one source saw it.
    fn add_errors(&self, place: u32, errors: &mut Vec<Errors>) {
        let record = &self.records[place];
        let mut kinds: Vec<(&Kind, Count)> = Vec::new();
        for kind in self.errors_of(place) {
            let known = kinds
                .iter_mut()
                .find(|(other, _)| other.is_like(kind.way, kind.error, record.server.is_group()));
            match known {
                Some((_, count)) => *count = count.more(kind.count),
                None => kinds.push((kind, kind.count)),
            }
        }
        errors.extend(kinds.into_iter().map(|(kind, count)| {
            let (quoted_source, quoted_destination) = match kind.way {
                Way::Request => (record.client, record.server),
                // Who answered for a group is told of the refusal.
                Way::Reply if record.server.is_group() => {
                    (End { address: kind.error.receiver, ..record.server }, record.client)
                }
                Way::Reply => (record.server, record.client),
            };
            Errors {
                sender: unpacked(kind.error.sender),
                receiver: unpacked(kind.error.receiver),
                icmp_type: kind.error.icmp_type,
                code: kind.error.code,
                mtu: kind.error.mtu,
                quoted_source: quoted_source.into(),
                quoted_destination: quoted_destination.into(),
                count: count.times.into(),
                first: moment(count, count.first),
                last: moment(count, count.last),
            }
        }));
    }
}

impl Iterator for Remarkable<'_> {
    type Item = Conversation;

    fn next(&mut self) -> Option<Conversation> {
        let place = self.places.next()?;
        let (client, server) = self.book.ends(place, &self.settled);
        let (mut requests, mut replies) =
            (self.book.flow(place, Way::Request), self.book.flow(place, Way::Reply));
        if self.settled.turned.contains(&place) {
            (requests, replies) = (replies, requests);
        }
        let mut errors = Vec::new();
        let mut strays = Vec::new();
        self.book.add_errors(place, &mut errors);
        for stray in self.settled.strays.get(&place).into_iter().flatten() {
            self.book.add_errors(stray.place, &mut errors);
            // Of some only the refusal was captured.
            if let Some(flow) = self.book.flow(stray.place, stray.way) {
                strays.push((stray.source.into(), flow));
            }
        }
        errors.sort_by_key(|kind| kind.first.order);
        strays.sort_by_key(|(_, flow): &(_, Flow)| flow.first.order);
        let answered = self.servers.get(&server).copied().unwrap_or(Answered::NOBODY);
        let others = || self.book.answers_to_others(answered, client);
        let also_answered = if errors.is_empty() {
            Vec::new()
        } else {
            let told = others().filter_map(|other| {
                let flow = self.book.flow(other, Way::Reply)?;
                Some((SocketAddr::from(self.book.records[other].client), flow))
            });
            told.collect()
        };
        Some(Conversation {
            client: client.into(),
            server: server.into(),
            requests,
            replies,
            strays,
            errors,
            also_answered,
            answers_others: others().next().is_some(),
            client_hears: self.hearing.get(&client.address).copied().unwrap_or(false),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.places.size_hint()
    }
}

/// Puts a place before the first that it goes before; the last one falls out.
fn insert(places: &mut [u32; 3], place: u32, goes_before: impl Fn(u32) -> bool) {
    if let Some(at) = places.iter().position(|other| goes_before(*other)) {
        places[at..].rotate_right(1);
        places[at] = place;
    }
}

fn moment(count: Count, stamp: Stamp) -> Moment {
    Moment { order: stamp.order(), time_ns: stamp.time_ns(), source: count.source, number: stamp.number() }
}
