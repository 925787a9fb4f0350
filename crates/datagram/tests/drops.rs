//! What the kernel says of real datagrams: drops with its reasons, and ICMP errors.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use udpkit_datagram::{Drops, Fate, KernelEvent};

fn open() -> Option<Drops> {
    Drops::open().inspect_err(|error| eprintln!("skipped: drops cannot be watched here: {error}")).ok()
}

fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The first event about a datagram from one to the other.
fn about(drops: &mut Drops, source: SocketAddr, destination: SocketAddr) -> KernelEvent {
    let ports = [source, destination].map(|end| end.port().to_be_bytes()).concat();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match drops.next_event() {
            Some(event) if event.header[20..24] == ports[..] => return event,
            _ => assert!(Instant::now() < deadline, "the kernel told nothing"),
        }
    }
}

#[test]
fn a_full_receive_buffer_is_a_drop_with_its_datagram() {
    let Some(mut drops) = open() else { return };
    let ((server, asked), (client, asking)) = (bound(), bound());
    nix::sys::socket::setsockopt(&server, nix::sys::socket::sockopt::RcvBuf, &2304).unwrap();
    for _ in 0..50 {
        client.send_to(&[0; 1000], asked).unwrap();
    }
    let event = about(&mut drops, asking, asked);
    let Fate::Dropped { reason, function } = event.fate else { panic!("{event:?}") };
    assert_eq!(reason, "SOCKET_RCVBUFF");
    assert!(function.contains("udp"), "{function}");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(own.to_str().unwrap(), format!("net:[{}]", event.namespace));
    assert_eq!(drops.lost(), 0);
}

#[test]
fn a_refusal_is_an_error_that_was_sent() {
    let Some(mut drops) = open().filter(|drops| {
        let told = drops.tells_errors();
        if !told {
            eprintln!("skipped: this kernel does not tell what ICMP errors it sends");
        }
        told
    }) else {
        return;
    };
    let ((client, asking), (closed, asked)) = (bound(), bound());
    drop(closed);
    client.send_to(b"?", asked).unwrap();
    let event = about(&mut drops, asking, asked);
    assert_eq!(event.fate, Fate::IcmpSent { icmp_type: 3, code: 3 });
}
