//! The file formats: byte orders, times, limits, compression, damage, and every way not to be a capture.

#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use std::io::Read;

use packets::{FORMATS, Format, Ng, Said, ethernet_v4, read, read_bytes, udp4};
use udpkit_capture::{CaptureKind, Input, Tally, is_capture};

const LITTLE: Format = FORMATS[0];

fn question() -> Vec<u8> {
    ethernet_v4(&udp4(b"ping"))
}

fn whole(file: &[u8]) -> (Vec<Said>, Tally) {
    let (said, tally) = read_bytes(file).expect("a capture");
    assert_eq!((tally.damage.len(), tally.unread.len()), (0, 0), "{tally:?}");
    (said, tally)
}

fn times(file: &[u8]) -> Vec<Option<u64>> {
    whole(file).0.iter().map(|said| said.1).collect()
}

/// Numbers of the packets that were read, and the damage.
fn numbers(file: &[u8]) -> (Vec<u64>, Vec<String>) {
    let (said, tally) = read_bytes(file).expect("a capture");
    (said.iter().map(|said| said.0).collect(), tally.damage)
}

#[test]
fn every_byte_order_and_precision() {
    for format in FORMATS {
        let file = [format.header(65_535, 1), format.record(1, 2, &question())].concat();
        let file = [file, format.record(u32::MAX, 999, &question())].concat();
        let unit = if format.nanoseconds { 1 } else { 1000 };
        let last = u64::from(u32::MAX) * 1_000_000_000 + 999 * unit;
        assert_eq!(times(&file), [Some(1_000_000_000 + 2 * unit), Some(last)]);
        let tally = whole(&file).1;
        assert_eq!((tally.packets, tally.datagrams, tally.icmp_errors), (2, 2, 0));
        assert_eq!((tally.first_ns, tally.last_ns), (Some(1_000_000_000 + 2 * unit), Some(last)));
    }
}

#[test]
fn the_upper_half_of_the_link_type_is_not_part_of_it() {
    for format in FORMATS {
        let file = [format.header(0, 0x2400_0001), format.record(0, 0, &question())].concat();
        assert_eq!(whole(&file).1.datagrams, 1);
    }
}

#[test]
fn longer_record_headers_of_patched_libpcaps() {
    let mut file = LITTLE.header(0, 1);
    file[..4].copy_from_slice(&[0x34, 0xcd, 0xb2, 0xa1]);
    for _ in 0..2 {
        let record = LITTLE.record(1, 2, &question());
        file.extend([&record[..16], &[0; 8], &record[16..]].concat());
    }
    assert_eq!(times(&file), [Some(1_000_002_000); 2]);
}

#[test]
fn before_version_2_4_the_lengths_are_in_each_others_place() {
    let mut file = [LITTLE.header(0, 1), LITTLE.record(0, 0, &question())].concat();
    file[6] = 2;
    file[24 + 8..24 + 12].copy_from_slice(&1000_u32.to_le_bytes());
    assert_eq!(whole(&file).1.datagrams, 1);
}

#[test]
fn what_is_no_capture_is_refused_in_one_line() {
    let refusal = |bytes: &[u8]| read_bytes(bytes).expect_err("not a capture").to_string();
    assert_eq!(refusal(b""), "not a capture: 0 bytes, less than a file header");
    assert_eq!(refusal(b"abc"), "not a capture: 3 bytes, less than a file header");
    assert_eq!(refusal(b"abcd and so on"), "not a capture: it starts with the bytes 61626364");
    assert_eq!(refusal(&LITTLE.header(0, 1)[..23]), "not a capture: 23 bytes, less than a file header");
    assert_eq!(refusal(b"\x0a\x0d\x0d\x0a and more"), "not a capture: it starts with the bytes 0a0d0d0a");
    let mut version = LITTLE.header(0, 1);
    version[4] = 3;
    assert_eq!(refusal(&version), "pcap version 3.4 is not supported");
}

#[test]
fn a_capture_is_told_by_its_first_bytes() {
    for format in FORMATS {
        assert_eq!(is_capture(&format.header(0, 1)), Some(CaptureKind::Pcap));
    }
    for order in [false, true] {
        assert_eq!(is_capture(&Ng::new(order).bytes), Some(CaptureKind::Pcapng));
    }
    assert_eq!(is_capture(b"IP 10.0.0.1.53 > "), None);
    assert_eq!(is_capture(b""), None);
}

#[test]
fn damage_says_where_and_what() {
    let record = LITTLE.record(0, 0, &question());
    let file = [LITTLE.header(0, 1), record.clone(), record.clone()].concat();
    let second = 24 + record.len();
    assert_eq!(numbers(&file), (vec![1, 2], vec![]));
    assert_eq!(
        numbers(&file[..file.len() - 2]),
        (vec![1], vec![format!("damaged at byte {second}: the file ends within a record, 2 bytes short")])
    );
    let header = format!("damaged at byte {second}: the file ends within a record header");
    assert_eq!(numbers(&file[..=second]), (vec![1], vec![header]));
    assert_eq!(numbers(&file[..second]), (vec![1], vec![]));
    assert_eq!(numbers(&file[..24]), (vec![], vec![]));
    let mut long = file;
    long[second + 8..second + 12].copy_from_slice(&262_145_u32.to_le_bytes());
    assert_eq!(
        numbers(&long).1,
        [format!(
            "damaged at byte {second}: a record claims 262145 captured bytes, more than the 262144 that can be"
        )]
    );
}

#[test]
fn records_behind_damage_are_found_again() {
    let record = LITTLE.record(1_700_000_000, 5, &question());
    let records = |count: usize| record.repeat(count);
    for garbage in [&[0xff_u8; 30][..], &[0; 1000], b"\x01", &[0xa5; 10_000]] {
        let file = [&LITTLE.header(0, 1), &records(2)[..], garbage, &records(4)].concat();
        let (found, damage) = numbers(&file);
        let place = |damage: &str| {
            let offset = damage.strip_prefix("damaged at byte ").and_then(|rest| rest.split_once(':'));
            offset.and_then(|(offset, _)| offset.parse::<usize>().ok()).unwrap()
        };
        // Zeros are empty records: the damage shows where they end.
        let places = [24 + records(2).len(), 24 + records(2).len() + garbage.len()];
        assert!(damage.len() == 1 && (places[0]..=places[1]).contains(&place(&damage[0])), "{damage:?}");
        assert_eq!(found.len(), 6, "{found:?}");
    }
}

#[test]
fn a_record_whose_length_lies_swallows_no_others() {
    let record = LITTLE.record(1_700_000_000, 5, &question());
    for lie in [1_u32, 40, 100, 300, 100_000, u32::MAX] {
        let mut file = [LITTLE.header(0, 1), record.repeat(9)].concat();
        let second = 24 + record.len() + 8;
        file[second..second + 4].copy_from_slice(&lie.to_le_bytes());
        let (said, tally) = read_bytes(&file).unwrap();
        assert!(said.len() >= 8, "{lie}: {} of 9", said.len());
        assert!(!tally.damage.is_empty(), "{lie}");
    }
}

#[test]
fn pcapng_of_every_byte_order_and_clock() {
    for order in [false, true] {
        let mut file = Ng::new(order);
        let offset = if order { 7_i64.to_be_bytes() } else { 7_i64.to_le_bytes() };
        file.interface(1, &[(1, b"a comment"), (2, b"eth0")])
            .interface(1, &[(9, &[9])])
            .interface(1, &[(9, &[0x8a])])
            .interface(1, &[(9, &[3]), (14, &offset)])
            .interface(1, &[(9, &[12])])
            .packet(0, 1_000_001, &question())
            .packet(1, 1_000_001, &question())
            .packet(2, 1024 + 512, &question())
            .packet(3, 1001, &question())
            .packet(4, 1_000_000_000_001, &question());
        let expected = [1_000_001_000, 1_000_001, 1_500_000_000, 8_001_000_000, 1_000_000_000];
        assert_eq!(times(&file.bytes), expected.map(Some));
    }
}

#[test]
fn pcapng_blocks_of_every_kind() {
    let mut file = Ng::new(false);
    file.block(4, b"names").block(5, b"statistics").block(0x0bad, b"custom").block(0x8000_0001, b"local");
    file.interface(1, &[]).packet(0, 1, &question());
    let length = file.u32(u32::try_from(question().len()).unwrap());
    file.block(3, &[&length[..], &question()].concat());
    // The obsolete packet block counts drops where the newer has the upper half of the interface.
    let obsolete = [&file.u16(0)[..], &file.u16(9), &[0; 4], &file.u32(2), &length, &length, &question()];
    file.block(2, &obsolete.concat());
    // A block that is longer than the buffer.
    file.block(10, &vec![7; 3 << 20]);
    // Another section has its own byte order and its own interfaces.
    file.section(true).interface(101, &[]).packet(0, 3, &udp4(b"ping"));
    let (said, tally) = whole(&file.bytes);
    assert_eq!(
        said.iter().map(|said| said.1).collect::<Vec<_>>(),
        [Some(1000), None, Some(2000), Some(3000)]
    );
    assert_eq!(tally.datagrams, 4);
}

#[test]
fn pcapng_goes_on_behind_damage() {
    for order in [false, true] {
        let mut good = Ng::new(order);
        good.interface(1, &[]).packet(0, 1, &question());
        let start = good.bytes.len();
        let mut more = good.clone();
        more.packet(0, 2, &question()).packet(0, 3, &question()).packet(9, 4, &question()).packet(
            0,
            5,
            &question(),
        );
        let (said, tally) = read_bytes(&more.bytes).unwrap();
        assert_eq!((said.len(), tally.damage.len()), (4, 1), "an interface that nobody described");
        assert!(tally.damage[0].ends_with("a packet of an interface that is not described"));

        for (at, byte) in [(start + 4, 0xff), (start + 5, 0x7f), (start + 22, 0x55), (start + 6, 0xff)] {
            let mut broken = more.bytes.clone();
            broken[at] = byte;
            broken[at ^ 3] = byte;
            let (said, tally) = read_bytes(&broken).unwrap();
            assert!(said.len() >= 3, "{said:?}");
            assert_eq!(tally.damaged_places, 2, "{tally:?}");
            assert!(tally.damage[0].starts_with(&format!("damaged at byte {start}:")), "{tally:?}");
        }
        let cut = read_bytes(&more.bytes[..start + 20]).unwrap().1;
        assert_eq!(cut.damage, [format!("damaged at byte {start}: the file ends within a block")]);
    }
}

#[test]
fn unknown_links_are_counted() {
    let mut file = Ng::new(false);
    file.interface(147, &[]).interface(1, &[]).packet(0, 1, b"?").packet(0, 1, b"?").packet(
        1,
        1,
        &question()[..20],
    );
    let unread = read_bytes(&file.bytes).unwrap().1.unread;
    let unread: Vec<_> = unread.iter().map(|(why, count)| (why.as_str(), *count)).collect();
    assert_eq!(unread, [("cut within an IP header", 1), ("link type 147", 2)]);
}

#[test]
fn reasons_and_places_are_bounded() {
    let mut file = Ng::new(false);
    for link_type in 300..500 {
        file.interface(link_type, &[]).packet(u32::from(link_type) - 300, 1, b"?");
    }
    for _ in 0..50 {
        file.packet(1000, 1, b"?");
    }
    let tally = read_bytes(&file.bytes).unwrap().1;
    assert_eq!(tally.unread.values().sum::<u64>(), 200);
    assert_eq!((tally.unread.len(), tally.damage.len(), tally.damaged_places), (64, 10, 50));
    assert_eq!(tally.damage[9], "41 more damaged places");
}

/// Fails with what a disk says, after some bytes.
struct Failing(Vec<u8>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        if count == 0 { Err(std::io::Error::from_raw_os_error(5)) } else { Ok(count) }
    }
}

#[test]
fn a_failed_read_is_not_the_end() {
    let nothing = Input::new(Box::new(Failing(Vec::new()))).err().unwrap();
    assert_eq!(nothing.raw_os_error(), Some(5));
    let mut ng = Ng::new(false);
    ng.interface(1, &[]).packet(0, 1, &question());
    for file in [[LITTLE.header(0, 1), LITTLE.record(0, 0, &question())].concat(), ng.bytes] {
        let place = format!("damaged at byte {}: cannot read on:", file.len());
        let (said, tally) = read(Failing(file)).unwrap();
        assert_eq!(said.len(), 1);
        assert!(tally.damage[0].starts_with(&place) && tally.damage[0].contains("os error 5"), "{tally:?}");
    }
}
