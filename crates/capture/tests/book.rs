//! The conversation table, told what happened by scripts.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use udpkit_capture::{
    Book, Checksum, Clock, Conversation, Message, Messages, Moment, Quoted, Stamped, Tally,
};

#[derive(Clone, Debug)]
enum Said {
    Sent(SocketAddr, SocketAddr, Checksum),
    Lost(SocketAddr, SocketAddr),
    /// By whom, type and code, and about what.
    Error(IpAddr, (u8, u8), SocketAddr, SocketAddr),
}

/// Messages one after the other, one each second unless told otherwise.
#[derive(Clone)]
struct Script {
    said: Vec<(u64, Said)>,
    clock: Clock,
    next: usize,
    tally: Tally,
}

fn script(said: impl IntoIterator<Item = Said>) -> Script {
    timed((1..).zip(said))
}

fn timed(said: impl IntoIterator<Item = (u64, Said)>) -> Script {
    Script { said: said.into_iter().collect(), clock: Clock::Epoch, next: 0, tally: Tally::default() }
}

impl Messages for Script {
    fn next_message(&mut self) -> Option<Stamped<'_>> {
        let (time, said) = self.said.get(self.next)?;
        self.next += 1;
        let message = match *said {
            Said::Sent(source, destination, checksum) => {
                Message::Datagram { source, destination, length: 5, payload: b"hello", checksum }
            }
            Said::Lost(source, destination) => Message::FragmentLost { source, destination },
            Said::Error(sender, (icmp_type, code), source, destination) => Message::IcmpError {
                sender,
                receiver: source.ip(),
                icmp_type,
                code,
                mtu: None,
                quoted: Some(Quoted { source, destination, length: Some(5) }),
            },
        };
        Some(Stamped { number: self.next as u64, time_ns: Some(*time), message })
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn clock(&self) -> Clock {
        self.clock
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn sent(source: &str, destination: &str) -> Said {
    Said::Sent(at(source), at(destination), Checksum::Fine)
}

/// Port unreachable by the host that the datagram was for.
fn refused(source: &str, destination: &str) -> Said {
    let to = at(destination);
    Said::Error(to.ip(), if to.is_ipv4() { (3, 3) } else { (1, 4) }, at(source), to)
}

fn read(scripts: impl IntoIterator<Item = Script>) -> Book {
    let mut sources: Vec<Box<dyn Messages + Send>> =
        scripts.into_iter().map(|one| Box::new(one) as Box<dyn Messages + Send>).collect();
    let mut book = Book::new();
    assert!(book.read(&mut sources, || ControlFlow::Continue(())).is_continue());
    book
}

fn remarkable(said: impl IntoIterator<Item = Said>) -> Vec<Conversation> {
    read([script(said)]).remarkable(100).collect()
}

fn only(said: impl IntoIterator<Item = Said>) -> Conversation {
    let [one] = <[_; 1]>::try_from(remarkable(said)).unwrap();
    one
}

/// Who asked whom, and how often something was said each way.
fn told(one: &Conversation) -> (String, String, u64, u64) {
    let count = |flow: Option<udpkit_capture::Flow>| flow.map_or(0, |flow| flow.count);
    (one.client.to_string(), one.server.to_string(), count(one.requests), count(one.replies))
}

fn tells(client: &str, server: &str, requests: u64, replies: u64) -> (String, String, u64, u64) {
    (client.to_owned(), server.to_owned(), requests, replies)
}

const CLIENT: &str = "172.17.0.3:38908";
const ASKED: &str = "172.16.13.13:56789";
const ACTUAL: &str = "172.17.0.1:56789";
const DNS: &str = "10.0.0.1:53";
const RESOLVER: &str = "10.0.0.9:40000";

#[test]
fn what_a_client_says_can_be_kept() {
    let other = sent("10.9.9.9:41000", ASKED);
    let mut book =
        read([script([sent(CLIENT, ASKED), sent(ASKED, CLIENT), other, sent(ASKED, "10.9.9.9:41000")])]);
    book.keep([ASKED.parse().unwrap()]);
    assert_eq!(book.remarkable(100).count(), 0, "it is a server there");
    book.keep([CLIENT.parse().unwrap()]);
    let kept: Vec<_> = book.remarkable(100).map(|one| one.client.to_string()).collect();
    assert_eq!(kept, [CLIENT]);
}

#[test]
fn what_everybody_got_is_not_remarkable() {
    assert_eq!(remarkable([sent(CLIENT, ASKED), sent(ASKED, CLIENT)]), []);
    assert_eq!(remarkable([sent(CLIENT, "239.1.2.3:1900"), sent(CLIENT, "10.0.0.255:137")]), []);
    assert_eq!(remarkable([sent(CLIENT, "[ff02::fb]:5353")]), [], "and who asks a group gets what he gets");
}

#[test]
fn a_request_without_reply_says_when_and_where() {
    let one = only([sent(CLIENT, ASKED), sent(CLIENT, ASKED)]);
    let requests = one.requests.unwrap();
    assert_eq!((requests.count, requests.largest, one.replies), (2, 5, None));
    assert_eq!(requests.first, Moment { order: 0, time_ns: Some(1), source: 0, number: 1 });
    assert_eq!(requests.last, Moment { order: 1, time_ns: Some(2), source: 0, number: 2 });
}

#[test]
fn a_stray_and_its_refusal_belong_to_who_was_asked() {
    let one = only([sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT)]);
    assert_eq!(told(&one), tells(CLIENT, ASKED, 1, 0));
    let [(stray, flow)] = one.strays[..] else { panic!("{one:?}") };
    assert_eq!((stray, flow.count, flow.first.number), (at(ACTUAL), 1, 2));
    let [error] = one.errors[..] else { panic!("{one:?}") };
    assert_eq!((error.quoted_source, error.quoted_destination, error.count), (at(ACTUAL), at(CLIENT), 1));
    assert_eq!((error.sender, error.receiver), (at(CLIENT).ip(), at(ACTUAL).ip()));
}

#[test]
fn a_refusal_may_quote_a_stray_that_was_never_seen() {
    let one = only([sent(CLIENT, ASKED), refused(ACTUAL, CLIENT)]);
    assert_eq!((one.strays.len(), one.errors.len()), (0, 1));
}

#[test]
fn a_stray_to_which_the_client_writes_is_a_peer() {
    let said = [sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), sent(CLIENT, ACTUAL)];
    assert_eq!(told(&only(said)), tells(CLIENT, ASKED, 1, 0));
}

#[test]
fn who_answers_for_a_group_is_no_stray_and_its_refusal_says_who_it_was() {
    let group = "239.255.255.250:1900";
    let (device, other) = ("10.0.0.1:1900", "10.0.0.2:1900");
    let mut said = vec![sent(RESOLVER, group), sent(device, RESOLVER), sent(other, RESOLVER)];
    assert_eq!(remarkable(said.clone()), []);
    let router = at("10.0.0.254:0").ip();
    said.push(Said::Error(router, (3, 3), at(other), at(RESOLVER)));
    assert_eq!(remarkable(said.clone()), [], "only the client's own refusal is one");
    said.extend([refused(device, RESOLVER), refused(other, RESOLVER), refused(other, RESOLVER)]);
    let one = only(said);
    assert_eq!((told(&one), one.strays.len()), (tells(RESOLVER, group, 1, 2), 0));
    let refusals: Vec<_> = one.errors.iter().map(|error| (error.quoted_source, error.count)).collect();
    assert_eq!(refusals, [(at(device), 1), (at(other), 2)]);
}

#[test]
fn several_strangers_are_nobodys_strays_unless_they_are_refused() {
    let other = "192.168.7.1:56789";
    let mut said = vec![sent(CLIENT, ASKED), sent(ACTUAL, CLIENT), sent(other, CLIENT)];
    assert_eq!(only(said.clone()).strays, []);
    said.push(refused(other, CLIENT));
    let strays: Vec<_> = only(said).strays.iter().map(|(stray, _)| *stray).collect();
    assert_eq!(strays, [at(other)]);
}

#[test]
fn a_capture_that_begins_with_an_answer_knows_the_server_by_its_port() {
    let one = only([sent(DNS, RESOLVER), refused(DNS, RESOLVER)]);
    assert_eq!((told(&one), one.requests), (tells(RESOLVER, DNS, 0, 1), None));
    assert_eq!(remarkable([sent(DNS, RESOLVER)]), [], "nothing was asked");
}

#[test]
fn a_capture_that_begins_with_a_stray_is_no_unanswered_request() {
    let begin = [sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT), sent(CLIENT, ASKED)];
    let found = remarkable(begin.clone());
    assert_eq!(
        found.iter().map(told).collect::<Vec<_>>(),
        [tells(CLIENT, ACTUAL, 0, 1), tells(CLIENT, ASKED, 1, 0)]
    );
    assert!(found.iter().all(|one| one.strays.is_empty()), "it was there before the request");
    let one = only(begin.into_iter().chain([sent(ACTUAL, CLIENT), refused(ACTUAL, CLIENT)]));
    assert_eq!((one.server, one.strays[0].0, one.strays[0].1.count), (at(ASKED), at(ACTUAL), 2));
}

#[test]
fn an_error_about_a_datagram_never_seen_opens_a_conversation() {
    let one = only([refused(RESOLVER, DNS)]);
    assert_eq!((told(&one), one.requests, one.errors.len()), (tells(RESOLVER, DNS, 0, 0), None, 1));
    let one = only([refused(DNS, RESOLVER)]);
    assert_eq!(
        told(&one),
        tells(RESOLVER, DNS, 0, 0),
        "a refused answer does not make the resolver a server"
    );
}

#[test]
fn errors_of_any_sender_and_kind_are_kept_but_not_without_bound() {
    let router = |n: u8| Said::Error(IpAddr::from([10, 9, 9, n]), (11, 0), at(CLIENT), at(ASKED));
    let one = only([sent(CLIENT, ASKED), router(1), router(1), refused(CLIENT, ASKED), router(1)]);
    let kinds: Vec<_> = one.errors.iter().map(|error| (error.sender, error.count)).collect();
    assert_eq!(kinds, [(IpAddr::from([10, 9, 9, 1]), 3), (at(ASKED).ip(), 1)]);
    assert_eq!((one.errors[0].first.number, one.errors[0].last.number), (2, 5));
    assert_eq!(only((0..=255).map(router)).errors.len(), 16);
}

#[test]
fn strays_of_one_conversation_have_a_bound() {
    let strangers = (1..=20).flat_map(|n| {
        let stranger = format!("10.1.1.{n}:56789");
        [sent(&stranger, CLIENT), refused(&stranger, CLIENT)]
    });
    assert_eq!(only([sent(CLIENT, ASKED)].into_iter().chain(strangers)).strays.len(), 16);
}

#[test]
fn wrong_checksums_and_lost_fragments_are_told_of_their_flow() {
    let wrong = Said::Sent(at(ASKED), at(CLIENT), Checksum::Wrong);
    let one = only([sent(CLIENT, ASKED), wrong, sent(ASKED, CLIENT), Said::Lost(at(ASKED), at(CLIENT))]);
    let replies = one.replies.unwrap();
    assert_eq!((replies.count, replies.bad_checksums, replies.lost_fragments), (3, 1, 1));
    assert_eq!(one.requests.unwrap().bad_checksums, 0);
}

#[test]
fn sources_are_merged_by_time_and_each_keeps_its_own_order() {
    // The second message of the first source has a time that goes back.
    let first = timed([(5, sent(CLIENT, ASKED)), (1, sent(CLIENT, ASKED)), (9, refused(CLIENT, ASKED))]);
    let second = timed([(2, sent(RESOLVER, ASKED)), (7, sent(RESOLVER, ASKED))]);
    let undated = Script { clock: Clock::TimeOfDay, ..timed([(0, sent("10.0.0.3:40000", ASKED))]) };
    let found: Vec<_> = read([undated, first, second]).remarkable(10).collect();
    let requests = found.iter().map(|one| one.requests.unwrap());
    assert_eq!(
        requests.map(|flow| (flow.first.source, flow.first.order, flow.last.order)).collect::<Vec<_>>(),
        [(2, 0, 3), (1, 1, 2), (0, 5, 5)]
    );
    assert_eq!(found[2].requests.unwrap().first.time_ns, None);
    assert_eq!(found[1].errors[0].first.order, 4);
}

#[test]
fn what_several_links_saw_counts_as_often_as_one_of_them_saw_it() {
    let whole = [sent(CLIENT, ASKED), sent(CLIENT, ASKED), refused(CLIENT, ASKED)];
    let captures = [&whole[..1], &whole[..], &whole[1..]].map(|said| script(said.to_vec()));
    let [one] = <[_; 1]>::try_from(read(captures).remarkable(10).collect::<Vec<_>>()).unwrap();
    let requests = one.requests.unwrap();
    assert_eq!((requests.count, requests.first.source, requests.first.number), (2, 1, 1));
    assert_eq!((one.errors.len(), one.errors[0].count), (1, 1));
}

#[test]
fn a_reply_on_any_link_is_a_reply() {
    let requests = script([sent(CLIENT, ASKED), sent(CLIENT, ASKED)]);
    assert_eq!(read([requests, script([sent(ASKED, CLIENT)])]).remarkable(10).count(), 0);
}

#[test]
fn whether_others_were_answered_and_whether_the_client_hears() {
    let one = only([sent(CLIENT, DNS)]);
    assert_eq!((one.answers_others, one.client_hears), (false, false));
    let one = only([sent(CLIENT, DNS), sent(RESOLVER, DNS), sent(DNS, RESOLVER)]);
    assert_eq!((one.answers_others, one.client_hears), (true, false));
    let one = only([sent(CLIENT, DNS), sent("172.17.0.3:40000", ASKED), sent(ASKED, "172.17.0.3:40000")]);
    assert_eq!((one.answers_others, one.client_hears), (false, true));
    let one = only([sent(CLIENT, DNS), sent(DNS, CLIENT), refused(CLIENT, DNS)]);
    assert!(!one.answers_others, "itself is no other");
}

#[test]
fn where_there_are_errors_whom_else_the_server_answered_first_and_last() {
    let others = |said: Vec<Said>| {
        let one = read([script(said)]).remarkable(9).next().unwrap();
        let flows = one.also_answered.iter();
        flows
            .map(|(other, flow)| (other.ip().to_string(), flow.first.number, flow.last.number))
            .collect::<Vec<_>>()
    };
    let answered = |n: u8| {
        let other = format!("10.0.0.{n}:40000");
        [sent(&other, DNS), sent(DNS, &other)]
    };
    let mut said = vec![sent(CLIENT, DNS), sent(DNS, CLIENT), refused(CLIENT, DNS)];
    assert_eq!(others(said.clone()), [], "itself is no other");
    said.extend(answered(1));
    assert_eq!(others(said.clone()), [("10.0.0.1".to_owned(), 5, 5)]);
    for n in [2, 3, 4] {
        said.extend(answered(n));
    }
    said.push(sent(DNS, CLIENT));
    assert_eq!(others(said.clone()), [("10.0.0.1".to_owned(), 5, 5), ("10.0.0.4".to_owned(), 11, 11)]);
    said.extend(answered(1));
    assert_eq!(others(said), [("10.0.0.1".to_owned(), 5, 14), ("10.0.0.4".to_owned(), 11, 11)]);
    let alone = vec![sent(CLIENT, DNS), sent(RESOLVER, DNS), sent(DNS, RESOLVER)];
    assert_eq!(others(alone), [], "nothing is said of who merely got no answer");
}

#[test]
fn where_there_is_no_room_those_that_merely_have_no_reply_go_first() {
    let said =
        (1..=9).map(|n| sent(&format!("10.0.0.{n}:40000"), DNS)).chain([refused("10.0.0.8:40000", DNS)]);
    let book = read([script(said)]);
    let remarkable = book.remarkable(3);
    assert_eq!(remarkable.unjudged, 6);
    let clients: Vec<_> = remarkable.map(|one| one.client.to_string()).collect();
    assert_eq!(clients, ["10.0.0.1:40000", "10.0.0.2:40000", "10.0.0.8:40000"]);
    assert_eq!((book.remarkable(1).unjudged, book.remarkable(0).count()), (8, 0));
}

/// With a step for each pair of peers none of these would end.
#[test]
fn thousands_of_peers_of_one_port_cost_no_more_than_others() {
    let peer = |n: u32, port: u16| SocketAddr::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), port);
    let said = |from, to| Said::Sent(from, to, Checksum::Fine);
    let node = at("192.0.2.1:51413");
    let asks = (0..200_000).map(|n| said(node, peer(n, 6881)));
    let strangers = (200_000..400_000).map(|n| said(peer(n, 6881), node));
    let refusals = (200_000..400_000).map(|n| Said::Error(node.ip(), (3, 3), peer(n, 6881), node));
    let book = read([script(asks.chain(strangers).chain(refusals))]);
    assert_eq!(book.len(), 400_000);
    assert_eq!(book.remarkable(10).count(), 10);
}

#[test]
fn reading_ends_when_it_is_told_to() {
    let endless = timed((0..100_000).map(|n| (n, sent(CLIENT, ASKED))));
    let mut sources: Vec<Box<dyn Messages + Send>> = vec![Box::new(endless)];
    let mut book = Book::new();
    assert!(book.read(&mut sources, || ControlFlow::Break(())).is_break());
    assert!(book.remarkable(1).next().unwrap().requests.unwrap().count < 100_000);
}

/// Any messages among a few endpoints: nothing is lost or counted twice, copies change nothing, and reading
/// again gives the same.
#[test]
fn laws() {
    let ends: Vec<_> = ["10.0.0.1", "10.0.0.2", "10.0.0.255"]
        .into_iter()
        .flat_map(|host| [53, 700, 40_000].map(|port| format!("{host}:{port}")))
        .collect();
    let mut state: u32 = 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..2000 {
        let said: Vec<_> = (0..random(12))
            .map(|_| {
                let (source, destination) = (&ends[random(ends.len())], &ends[random(ends.len())]);
                if random(3) == 0 { refused(source, destination) } else { sent(source, destination) }
            })
            .collect();
        let once: Vec<_> = read([script(said.clone())]).remarkable(100).collect();
        let counted: u64 = once
            .iter()
            .flat_map(|one| {
                [one.requests, one.replies].into_iter().chain(one.strays.iter().map(|s| Some(s.1)))
            })
            .flatten()
            .map(|flow| flow.count)
            .sum();
        let datagrams = said.iter().filter(|one| matches!(one, Said::Sent(..))).count();
        assert!(counted <= datagrams as u64, "{said:?}\n{once:?}");
        for one in &once {
            assert!(one.strays.is_empty() || one.replies.is_none(), "{one:?}");
            assert!(one.requests.is_some() || !one.errors.is_empty() || !one.strays.is_empty(), "{one:?}");
        }
        // Orders differ where there are twice as many messages.
        let plain = |found: &[Conversation]| -> Vec<_> {
            let strays =
                |one: &Conversation| one.strays.iter().map(|(end, s)| (*end, s.count)).collect::<Vec<_>>();
            found.iter().map(|one| (told(one), strays(one), one.errors.len())).collect()
        };
        let twice: Vec<_> = read([script(said.clone()), script(said.clone())]).remarkable(100).collect();
        assert_eq!(plain(&once), plain(&twice), "{said:?}");
        assert_eq!(once, read([script(said)]).remarkable(100).collect::<Vec<_>>());
    }
}
