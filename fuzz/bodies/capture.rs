//! Any bytes as a capture: it ends, and what is said of it is consistent, however the bytes arrive.

use std::io::Read;

use udpkit_capture::{Input, Message, Tally, open_capture};

/// A stream that comes in pieces of so many bytes.
struct Pieces(Vec<u8>, usize, usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.0[self.2..];
        let length = buffer.len().min(self.1).min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.2 += length;
        Ok(length)
    }
}

/// Reads the bytes; a few of them twice, the second time in pieces.
pub fn run(data: &[u8]) {
    let whole = read(data, usize::MAX);
    if data.len() < 4096 {
        assert_eq!(whole, read(data, 7));
    }
}

fn read(data: &[u8], pieces: usize) -> Option<(Vec<String>, Tally)> {
    let input = Input::new(Box::new(Pieces(data.to_vec(), pieces, 0))).ok()?;
    let mut capture = open_capture(input).ok()?;
    let mut said = Vec::new();
    let (mut datagrams, mut icmp_errors) = (0, 0);
    while let Some(stamped) = capture.next_message() {
        match stamped.message {
            Message::Datagram { length, payload, .. } => {
                assert!(payload.len() <= usize::from(length));
                datagrams += 1;
            }
            Message::IcmpError { .. } => icmp_errors += 1,
            Message::FragmentLost { .. } => {}
        }
        if data.len() < 4096 {
            said.push(format!("{stamped:?}"));
        }
        let number = stamped.number;
        assert!((1..=capture.tally().packets).contains(&number));
    }
    assert!(capture.next_message().is_none());
    let tally = capture.tally().clone();
    assert_eq!((tally.datagrams, tally.icmp_errors), (datagrams, icmp_errors));
    assert!(datagrams + icmp_errors <= tally.packets);
    assert!(tally.unread.len() <= Tally::REASONS && tally.damage.len() <= Tally::PLACES);
    assert!(tally.damage.len() as u64 <= tally.damaged_places && tally.first_ns <= tally.last_ns);
    Some((said, tally))
}
