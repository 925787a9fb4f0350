//! Any bytes as tcpdump's text: it is read to its end, and what is told of it is bounded and adds up.

use udpkit_capture::{Message, Messages, Tally};
use udpkit_text::{Services, Tcpdump, is_tcpdump};

/// As many names stand in place of addresses at most.
const NAMES: usize = 65_536;

/// Reads the bytes.
pub fn run(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').count() as u64;
    let claimed = is_tcpdump(data);
    let mut reader = Tcpdump::new(data, Services::default());
    let (mut datagrams, mut errors, mut last) = (0, 0, 0);
    while let Some(stamped) = reader.next_message() {
        assert!(
            last <= stamped.number && stamped.number <= lines,
            "messages are in the order of their lines"
        );
        last = stamped.number;
        match stamped.message {
            Message::Datagram { source, destination, .. } => {
                assert_eq!(source.is_ipv4(), destination.is_ipv4());
                datagrams += 1;
            }
            Message::IcmpError { sender, receiver, quoted, .. } => {
                assert_eq!(sender.is_ipv4(), receiver.is_ipv4());
                assert!(quoted.is_none_or(|at| at.source.is_ipv4() == at.destination.is_ipv4()));
                errors += 1;
            }
            Message::FragmentLost { .. } => unreachable!("text cannot tell"),
        }
    }
    let tally = reader.tally();
    assert_eq!((tally.datagrams, tally.icmp_errors), (datagrams, errors));
    assert!(datagrams + errors <= tally.packets && tally.packets <= lines);
    assert!(tally.unread.len() <= Tally::REASONS && tally.damage.len() <= Tally::PLACES);
    assert!(tally.first_ns <= tally.last_ns && reader.names().len() <= NAMES);
    assert!(claimed || datagrams + errors == 0, "what has datagrams is claimed");
}
