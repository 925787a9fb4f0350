//! Batches, sources and errors against the kernel, over loopback.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use udpkit_datagram::{
    Arena, Deliver, Family, Origin, Outbox, Outcome, Outgoing, Readiness, Received, Reports, Woken, wait,
};

const SOON: Duration = Duration::from_secs(5);

/// A socket on every IPv4 address that is told of destinations and errors.
fn server() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap();
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn client(server: &UdpSocket, asked: &str) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect((asked, server.local_addr().unwrap().port())).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client
}

fn receive(arena: &mut Arena, socket: &UdpSocket, maximum: usize) -> Vec<(Vec<u8>, SocketAddr, String)> {
    receive_some(arena, socket, maximum);
    let owned = |received: Received<'_>| {
        (received.data.to_vec(), received.path.peer, received.path.local.unwrap().to_string())
    };
    arena.datagrams(true).map(owned).collect()
}

/// Wait for the first, as the socket itself never does.
fn receive_some(arena: &mut Arena, socket: &UdpSocket, maximum: usize) {
    assert_eq!(wait(socket.as_fd(), Readiness::Readable, SOON).unwrap(), Woken::Ready);
    arena.receive(socket.as_fd(), maximum, 0).unwrap();
}

fn deliver(socket: &UdpSocket, datagrams: &[Outgoing<'_>], gso: bool) -> (Outcome, Reports) {
    let how = Deliver { fd: socket.as_fd(), family: Family::V4, gso, flags: 0, stop_at_earlier: false };
    let mut reports = Reports::default();
    let outcome = Outbox::new(256).deliver(&how, datagrams, &mut reports).unwrap();
    (outcome, reports)
}

fn sent(count: usize) -> Outcome {
    Outcome { done: count, ..Outcome::default() }
}

#[test]
fn a_batch_is_received_and_answered_from_where_each_was_asked() {
    let (server, mut arena) = (server(), Arena::new(8, 2048));
    let clients = ["127.0.0.2", "127.0.0.3", "127.0.0.2"].map(|asked| client(&server, asked));
    for (number, client) in clients.iter().enumerate() {
        client.send(&[b'0' + u8::try_from(number).unwrap()]).unwrap();
    }
    receive_some(&mut arena, &server, 8);
    let answers: Vec<_> =
        arena.datagrams(true).map(|received| Outgoing::answer(&received.path, received.data)).collect();
    assert_eq!(deliver(&server, &answers, false).0, sent(3));
    for (number, client) in clients.iter().enumerate() {
        let mut answer = [0; 8];
        assert_eq!(client.recv(&mut answer).unwrap(), 1, "only an answer from the right address gets here");
        assert_eq!(usize::from(answer[0] - b'0'), number);
    }
}

#[test]
fn the_memory_of_a_batch_is_used_again_and_shows_nothing_old() {
    let (server, mut arena) = (server(), Arena::new(4, 16));
    let client = client(&server, "127.0.0.1");
    for data in [&b"a long first one"[..], b"", b"short", b"longer than its room is"] {
        client.send(data).unwrap();
        receive_some(&mut arena, &server, 4);
        let [received] = &arena.datagrams(true).collect::<Vec<_>>()[..] else { panic!("one") };
        assert_eq!(received.data, &data[..data.len().min(16)]);
        assert_eq!(received.truncated, data.len() > 16);
    }
    assert_eq!(arena.receive(server.as_fd(), 4, 0).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(arena.datagrams(true).count(), 0);
}

#[test]
fn gso_carries_the_same_datagrams_as_single_messages() {
    let (server, mut arena) = (server(), Arena::new(256, 2048));
    let peers = [client(&server, "127.0.0.1"), client(&server, "127.0.0.1")];
    let ways: Vec<SocketAddr> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    // Runs of one size, a shorter end, an empty one in the middle, and the other peer in between.
    let sizes = [(100, 0), (100, 0), (30, 0), (100, 0), (0, 0), (0, 0), (100, 1), (100, 1), (101, 1), (1, 0)];
    let data: Vec<Vec<u8>> =
        sizes.iter().enumerate().map(|(n, &(size, _))| vec![u8::try_from(n).unwrap(); size]).collect();
    let outgoing: Vec<_> = sizes
        .iter()
        .zip(&data)
        .map(|(&(_, peer), data)| Outgoing { data, peer: Some(ways[peer]), local: None, interface: 0 })
        .collect();
    for gso in [false, true] {
        assert_eq!(deliver(&server, &outgoing, gso).0, sent(sizes.len()));
        for (number, peer) in peers.iter().enumerate() {
            for (expected, _) in data.iter().zip(&sizes).filter(|(_, (_, to))| *to == number) {
                let mut buffer = [0; 2048];
                let length = peer.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], expected);
            }
        }
    }
    peers[0].send(b"still in order").unwrap();
    assert_eq!(receive(&mut arena, &server, 256)[0].0, b"still in order");
}

#[test]
fn a_refused_answer_is_reported_with_everything_the_kernel_knows() {
    let (server, mut arena) = (server(), Arena::new(8, 2048));
    let gone = client(&server, "127.0.0.5");
    gone.send(b"hello").unwrap();
    receive_some(&mut arena, &server, 8);
    let peer = gone.local_addr().unwrap();
    drop(gone);
    let answers: Vec<_> =
        arena.datagrams(true).map(|asked| Outgoing::answer(&asked.path, b"world")).collect();
    assert_eq!(deliver(&server, &answers, false).0, sent(1));

    assert_eq!(wait(server.as_fd(), Readiness::Readable, SOON).unwrap(), Woken::Ready, "an error wakes");
    let mut reports = Reports::default();
    assert!(reports.drain(server.as_fd(), None).unwrap().earlier);
    let [report] = &reports.take()[..] else { panic!("one report") };
    assert_eq!((report.errno, report.origin), (libc::ECONNREFUSED, Origin::Icmp));
    assert_eq!((report.icmp_type, report.code, report.peer), (3, 3, Some(peer)));
    assert_eq!(report.local, Some("127.0.0.5".parse().unwrap()));
    assert_eq!(report.offender, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(report.quoted, b"world");
    let calm = wait(server.as_fd(), Readiness::Readable, Duration::ZERO).unwrap();
    assert_eq!(calm, Woken::TooLate, "and is gone then");
}

#[test]
fn what_cannot_be_sent_is_reported_and_the_rest_goes() {
    let (server, mut arena) = (server(), Arena::new(8, 2048));
    let other = self::server();
    let way = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let there = Some(way(other.local_addr().unwrap().port()));
    let large = vec![0; 65_508];
    let datagram = |data, peer, local| Outgoing { data, peer, local, interface: 0 };
    let datagrams = [
        datagram(b"first", there, None),
        datagram(&large, there, None),
        datagram(b"nowhere", Some(way(0)), None),
        datagram(b"foreign", Some("[::1]:9".parse().unwrap()), None),
        datagram(b"stale", there, Some("192.0.2.99".parse().unwrap())),
        datagram(b"last", there, None),
    ];
    for gso in [false, true] {
        let (outcome, mut reports) = deliver(&server, &datagrams, gso);
        assert_eq!(outcome, Outcome { done: 6, failed: 3, stale: 1, ..Outcome::default() });
        let errnos: Vec<_> = reports.take().iter().map(|report| report.errno).collect();
        assert_eq!(errnos, [libc::EMSGSIZE, libc::EINVAL, libc::EAFNOSUPPORT, libc::ENETUNREACH]);
        let mut received = Vec::new();
        while received.len() < 3 {
            received.extend(receive(&mut arena, &other, 8).into_iter().map(|(data, ..)| data));
        }
        assert_eq!(received, [&b"first"[..], b"stale", b"last"]);
    }
}

#[test]
fn an_earlier_error_costs_no_datagram() {
    let (server, mut arena) = (server(), Arena::new(8, 2048));
    let other = self::server();
    let there = other.local_addr().unwrap().port();
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = |peer| Outgoing { data: b"x", peer: Some(peer), local: None, interface: 0 };
    let here = SocketAddr::from(([127, 0, 0, 1], there));
    for _ in 0..5 {
        // The refusal of the first is pending when the second is sent.
        let (outcome, mut reports) = deliver(&server, &[to(closed)], false);
        assert_eq!(outcome, sent(1));
        assert!(reports.take().is_empty());
        let (outcome, mut reports) = deliver(&server, &[to(here), to(here)], false);
        assert_eq!(outcome, sent(2));
        assert_eq!(reports.take().len(), 1);
        let mut received = 0;
        while received < 2 {
            received += receive(&mut arena, &other, 8).len();
        }
    }
}
