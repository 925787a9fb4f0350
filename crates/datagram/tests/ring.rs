//! The ring on the loopback interface of a network namespace of its own.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use udpkit_datagram::Ring;

/// (interface, from this host, payload) of the datagrams that a ring sees of what `act` sends.
fn seen(interfaces: &[u32], snapshot: u32, expected: usize, act: impl FnOnce()) -> Vec<(u32, bool, Vec<u8>)> {
    let mut ring = Ring::open(interfaces, snapshot, 1 << 20).unwrap();
    act();
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while seen.len() < expected {
        assert!(Instant::now() < deadline, "{seen:?}");
        ring.wait(Duration::from_millis(200)).unwrap();
        while let Some(block) = ring.next_block() {
            for packet in block.packets() {
                assert!(packet.time_ns > 1_600_000_000_000_000_000, "since the epoch");
                assert_eq!(packet.data[0] >> 4, 4);
                seen.push((packet.interface, packet.outgoing, packet.data[28..].to_vec()));
            }
        }
    }
    let counters = ring.counters().unwrap();
    assert_eq!((counters.packets, counters.lost), (seen.len() as u64, 0));
    seen
}

/// A namespace of this thread's own; `None` where that is not allowed.
fn on_a_host(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: no network namespace without root: {error}");
            return;
        }
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.unwrap().success());
        test();
    })
    .join()
    .unwrap();
}

fn talk() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"one", server.local_addr().unwrap()).unwrap();
    // Seen by the filter, and not wanted: TCP to a closed port.
    assert!(std::net::TcpStream::connect("127.0.0.1:1").is_err());
    client.send_to(b"three", server.local_addr().unwrap()).unwrap();
}

#[test]
fn what_loopback_carries_is_seen_once_and_only_udp() {
    on_a_host(|| {
        for interfaces in [&[][..], &[1], &[1, 2]] {
            let payloads: Vec<_> = seen(interfaces, 1 << 16, 2, talk).into_iter().collect();
            assert_eq!(payloads, [(1, false, b"one".to_vec()), (1, false, b"three".to_vec())]);
        }
    });
}

#[test]
fn as_many_interfaces_as_a_filter_can_name() {
    let many: Vec<u32> = (1..=256).rev().collect();
    let refused = Ring::open(&many, 1 << 16, 1 << 20).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    on_a_host(move || assert_eq!(seen(&many[1..], 1 << 16, 2, talk).len(), 2));
}

#[test]
fn the_snapshot_cuts() {
    on_a_host(|| {
        let payloads = seen(&[1], 30, 2, talk);
        assert_eq!(payloads.iter().map(|(.., data)| data.len()).collect::<Vec<_>>(), [2, 2]);
    });
}

#[test]
fn a_refusal_is_seen() {
    on_a_host(|| {
        let payloads = seen(&[1], 1 << 16, 2, || {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(b"x", "127.0.0.1:9").unwrap();
        });
        let quoted = &payloads[1].2;
        assert_eq!(quoted.last(), Some(&b'x'), "the ICMP error quotes the datagram");
    });
}
