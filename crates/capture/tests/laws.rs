//! What holds for every file: how it is read, cut or changed makes no difference beyond what it must.

#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use std::io::Read;

use packets::{FORMATS, every_kind};
use udpkit_capture::{LinkType, Message, PcapReader, dissect};

/// One record, with everything that was said about it written out.
type Said = String;

/// Reads a file to its end. `None`: not a pcap file.
fn read(source: impl Read) -> Option<(Vec<Said>, Option<String>)> {
    let mut reader = PcapReader::new(source).ok()?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record() {
        match record {
            Ok(record) => {
                let message = record.message();
                if let Some(Message::Datagram { length, payload, .. }) = message {
                    assert!(payload.len() <= usize::from(length), "more payload than the header has");
                }
                records.push(format!("{} {} {message:?}", record.number, record.time_ns));
            }
            Err(damage) => return Some((records, Some(damage.to_string()))),
        }
    }
    Some((records, None))
}

fn whole(file: &[u8]) -> Vec<Said> {
    let (records, damage) = read(file).expect("a pcap file");
    assert_eq!(damage, None);
    records
}

struct ByteByByte<'a>(&'a [u8]);

impl Read for ByteByByte<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn every_format_says_the_same() {
    let said = FORMATS.map(|format| whole(&format.file(&every_kind())).len());
    assert_eq!(said, [every_kind().len(); 4]);
    let messages = whole(&FORMATS[0].file(&every_kind()));
    assert_eq!(messages.iter().filter(|said| said.contains("Datagram")).count(), 6);
    assert_eq!(messages.iter().filter(|said| said.contains("IcmpError")).count(), 4);
}

#[test]
fn byte_by_byte_is_the_same() {
    for format in FORMATS {
        let file = format.file(&every_kind());
        assert_eq!(read(ByteByByte(&file)), read(&file[..]));
    }
}

#[test]
fn a_cut_gives_a_prefix() {
    for format in FORMATS {
        let file = format.file(&every_kind());
        let all = whole(&file);
        let mut ends = vec![format.header(0, 1).len()];
        for packet in every_kind() {
            ends.push(ends[ends.len() - 1] + 16 + packet.len());
        }
        for cut in 0..=file.len() {
            let Some((records, damage)) = read(&file[..cut]) else {
                assert!(cut < ends[0]);
                continue;
            };
            let complete = ends.iter().filter(|&&end| end <= cut).count() - 1;
            assert_eq!(records, all[..complete], "cut at {cut}");
            assert_eq!(damage.is_some(), !ends.contains(&cut), "cut at {cut}");
        }
    }
}

#[test]
fn a_tail_of_garbage_changes_nothing_before_it() {
    for format in FORMATS {
        let file = format.file(&every_kind());
        let all = whole(&file);
        for garbage in [&b"\xff"[..], &[0xff; 100], &[0xa5; 1000], b"#!/bin/sh\necho this is no capture\n"] {
            let (records, damage) = read(&[&file, garbage].concat()[..]).unwrap();
            assert_eq!(records, all);
            assert!(damage.unwrap().starts_with(&format!("damaged at byte {}:", file.len())));
        }
    }
}

#[test]
fn any_changed_byte_is_survived() {
    for format in FORMATS {
        let mut file = format.file(&every_kind());
        for at in 0..file.len() {
            let original = file[at];
            for changed in
                [0, 1, 0x7f, 0x80, 0xff, original ^ 1, original.wrapping_add(1), original.wrapping_sub(1)]
            {
                file[at] = changed;
                let _ = read(&file[..]);
            }
            file[at] = original;
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
