//! What holds for every file: how it is read, cut or changed makes no difference beyond what it must.

#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use packets::{FORMATS, Format, Ng, Pieces, Said, every_kind, read, read_bytes};
use udpkit_capture::{LinkType, Message, dissect};

fn whole(file: &[u8]) -> Vec<Said> {
    let (said, tally) = read_bytes(file).expect("a capture");
    assert!(tally.damage.is_empty(), "{tally:?}");
    said
}

/// The same packets in every format, and where each file header and packet ends.
fn files() -> Vec<(Vec<u8>, Vec<usize>)> {
    let pcap = FORMATS.map(|format: Format| {
        let mut ends = vec![format.header(0, 1).len()];
        for packet in every_kind() {
            ends.push(ends[ends.len() - 1] + 16 + packet.len());
        }
        (format.file(&every_kind()), ends)
    });
    let pcapng = [false, true].map(|order| {
        let mut file = Ng::new(order);
        file.interface(1, &[]);
        let mut ends = vec![file.bytes.len()];
        for (second, packet) in (1_700_000_000..).zip(every_kind()) {
            file.packet(0, second * 1_000_000 + 123_456, &packet);
            ends.push(file.bytes.len());
        }
        (file.bytes, ends)
    });
    pcap.into_iter().chain(pcapng).collect()
}

#[test]
fn every_format_says_the_same() {
    let said = files().iter().map(|(file, _)| whole(file)).collect::<Vec<_>>();
    let words = |said: &[Said]| said.iter().map(|said| (said.0, said.2.clone())).collect::<Vec<_>>();
    assert!(said.iter().all(|other| words(other) == words(&said[0])));
    assert_eq!(said[0].iter().filter(|said| said.2.starts_with("Datagram")).count(), 6);
    assert_eq!(said[0].iter().filter(|said| said.2.starts_with("IcmpError")).count(), 4);
    assert_eq!(said[0], said[4], "times too");
}

#[test]
fn byte_by_byte_is_the_same() {
    for (file, _) in files() {
        assert_eq!(read(Pieces(file.clone(), 1)).unwrap(), read_bytes(&file).unwrap());
    }
}

#[test]
fn a_cut_gives_a_prefix() {
    for (file, ends) in files() {
        let all = whole(&file);
        for cut in 0..=file.len() {
            let Ok((said, tally)) = read_bytes(&file[..cut]) else {
                assert!(cut < ends[0]);
                continue;
            };
            let complete = ends.iter().filter(|&&end| end <= cut).count().saturating_sub(1);
            let lost = said.iter().filter(|said| said.2.starts_with("FragmentLost")).count();
            let messages = &said[..said.len() - lost];
            let expected: Vec<&Said> = all.iter().filter(|said| said.0 <= complete as u64).collect();
            assert_eq!(messages.iter().collect::<Vec<_>>(), expected, "cut at {cut}");
            assert!(
                cut < ends[0] || tally.damage.is_empty() == ends.contains(&cut),
                "cut at {cut}: {tally:?}"
            );
        }
    }
}

#[test]
fn a_tail_of_garbage_changes_nothing_before_it() {
    for (file, _) in files() {
        let all = whole(&file);
        for garbage in [&b"\xff"[..], &[0xff; 100], &[0xa5; 1000], b"#!/bin/sh\necho this is no capture\n"] {
            let (said, tally) = read_bytes(&[&file, garbage].concat()).unwrap();
            assert_eq!(said, all);
            assert!(tally.damage[0].starts_with(&format!("damaged at byte {}:", file.len())));
            assert_eq!(tally.damage.len(), 1);
        }
    }
}

#[test]
fn any_changed_byte_is_survived() {
    for (mut file, _) in files() {
        for at in 0..file.len() {
            let original = file[at];
            for changed in
                [0, 1, 0x7f, 0x80, 0xff, original ^ 1, original.wrapping_add(1), original.wrapping_sub(1)]
            {
                file[at] = changed;
                let _ = read_bytes(&file);
            }
            file[at] = original;
        }
    }
}

#[test]
fn a_changed_byte_in_a_record_header_costs_few_packets() {
    for (file, ends) in files() {
        let file = [&file[..], &file[ends[0]..], &file[ends[0]..]].concat();
        let all = whole(&file).len();
        for at in ends[0]..ends[3] {
            let mut broken = file.clone();
            broken[at] ^= 0x40;
            let found = read_bytes(&broken).unwrap().0.len();
            assert!(found + 3 >= all, "{found} of {all}, changed at {at}");
        }
    }
}

#[test]
fn any_changed_pair_of_bytes_is_survived_in_small_packets() {
    for packet in every_kind() {
        let mut packet = packet;
        for first in 12..packet.len().min(80) {
            for second in first + 1..packet.len().min(80) {
                let originals = (packet[first], packet[second]);
                for (a, b) in [(0, 0), (0xff, 0xff), (0, 0xff), (44, 60), (0x45, 0x60)] {
                    (packet[first], packet[second]) = (a, b);
                    let _ = dissect(LinkType::ETHERNET, &packet);
                }
                (packet[first], packet[second]) = originals;
            }
        }
    }
}

#[test]
fn every_link_survives_every_packet() {
    for number in 0..300 {
        for packet in every_kind() {
            for start in 0..packet.len() {
                let _ = dissect(LinkType(number), &packet[start..]);
            }
        }
    }
}

#[test]
fn every_cut_of_a_packet_is_survived_and_says_no_more() {
    for packet in every_kind() {
        let complete = dissect(LinkType::ETHERNET, &packet);
        for cut in 0..packet.len() {
            let message = dissect(LinkType::ETHERNET, &packet[..cut]);
            match (message, complete) {
                (Some(Message::Datagram { payload, .. }), Some(Message::Datagram { payload: all, .. })) => {
                    assert!(all.starts_with(payload));
                }
                (None, _)
                | (Some(Message::IcmpError { .. }), Some(Message::IcmpError { .. }))
                // An error about something else than UDP may be cut before it says so.
                | (Some(Message::IcmpError { quoted: None, .. }), None) => {}
                (cut, complete) => panic!("{cut:?} from {complete:?}"),
            }
        }
    }
}
