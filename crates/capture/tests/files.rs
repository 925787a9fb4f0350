//! The file format: byte orders, times, limits, and every way not to be a pcap file.

#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use packets::{FORMATS, Format};
use udpkit_capture::{LinkType, PcapReader};

const LITTLE: Format = FORMATS[0];

fn refusal(bytes: &[u8]) -> String {
    PcapReader::new(bytes).expect_err("not a pcap file").to_string()
}

/// Reads all records and returns their lengths and the damage.
fn lengths(file: &[u8]) -> (Vec<usize>, Option<String>) {
    let mut reader = PcapReader::new(file).unwrap();
    let mut lengths = Vec::new();
    while let Some(record) = reader.next_record() {
        match record {
            Ok(record) => lengths.push(record.data.len()),
            Err(damage) => {
                let damage = damage.to_string();
                assert!(reader.next_record().is_none(), "nothing follows damage");
                return (lengths, Some(damage));
            }
        }
    }
    assert!(reader.next_record().is_none(), "the end stays the end");
    (lengths, None)
}

#[test]
fn every_byte_order_and_precision() {
    for format in FORMATS {
        let file =
            [format.header(65_535, 1), format.record(1, 2, b"first"), format.record(u32::MAX, u32::MAX, b"")]
                .concat();
        let mut reader = PcapReader::new(&file[..]).unwrap();
        let unit = if format.nanoseconds { 1 } else { 1000 };

        let first = reader.next_record().unwrap().unwrap();
        assert_eq!((first.number, first.time_ns), (1, 1_000_000_000 + 2 * unit));
        assert_eq!((first.link_type, first.data), (LinkType::ETHERNET, &b"first"[..]));

        let second = reader.next_record().unwrap().unwrap();
        assert_eq!((second.number, second.data), (2, &b""[..]));
        assert_eq!(second.time_ns, u64::from(u32::MAX) * (1_000_000_000 + unit));
        assert!(reader.next_record().is_none());
    }
}

#[test]
fn the_upper_half_of_the_link_type_is_not_part_of_it() {
    for format in FORMATS {
        let file = [format.header(0, 0x2400_0001), format.record(0, 0, b"")].concat();
        let mut reader = PcapReader::new(&file[..]).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().link_type, LinkType::ETHERNET);
    }
}

#[test]
fn what_is_no_pcap_file_is_refused_in_one_line() {
    assert_eq!(refusal(b""), "not a pcap file: 0 bytes, less than a file header");
    assert_eq!(refusal(b"abc"), "not a pcap file: 3 bytes, less than a file header");
    assert_eq!(refusal(b"abcd"), "not a pcap file: it starts with the bytes 61626364");
    assert_eq!(refusal(&LITTLE.header(0, 1)[..23]), "not a pcap file: 23 bytes, less than a file header");
    assert_eq!(refusal(b"\x0a\x0d\x0d\x0a and more"), "not a pcap file: it is pcapng");
    let mut version = LITTLE.header(0, 1);
    version[6] = 5;
    assert_eq!(refusal(&version), "pcap version 2.5 is not supported");
}

#[test]
fn damage_says_where_and_what() {
    let whole = [LITTLE.header(0, 1), LITTLE.record(0, 0, b"first"), LITTLE.record(0, 0, b"second")].concat();
    assert_eq!(lengths(&whole), (vec![5, 6], None));
    let cut = |length: usize| lengths(&whole[..length]);
    assert_eq!(
        cut(whole.len() - 2),
        (vec![5], Some("damaged at byte 45: the file ends within a record, 2 bytes short".into()))
    );
    assert_eq!(cut(46), (vec![5], Some("damaged at byte 45: the file ends within a record header".into())));
    assert_eq!(cut(45), (vec![5], None));
    assert_eq!(cut(24), (vec![], None));
}

#[test]
fn a_record_is_no_longer_than_can_be() {
    let too_long = |snapshot_length: u32, claimed: u32| {
        let header = [&[0; 8], &claimed.to_le_bytes()[..], &claimed.to_le_bytes()].concat();
        lengths(&[LITTLE.header(snapshot_length, 1), header].concat()).1.unwrap().contains("claims")
    };
    assert!(too_long(0, 262_145) && !too_long(0, 262_144));
    assert!(too_long(u32::MAX, u32::MAX) && too_long(u32::MAX, 262_145));
    // Programs that exceed their own snapshot length do so by no more than a packet.
    assert!(too_long(96, 65_536) && !too_long(96, 65_535));
    assert!(too_long(100_000, 100_001) && !too_long(100_000, 100_000));
}

/// Fails with what a disk says, after some bytes.
struct Failing<'a>(&'a [u8]);

impl std::io::Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match std::io::Read::read(&mut self.0, buffer)? {
            0 => Err(std::io::Error::from_raw_os_error(5)),
            count => Ok(count),
        }
    }
}

#[test]
fn a_failed_read_is_not_the_end() {
    assert!(PcapReader::new(Failing(b"")).err().unwrap().to_string().contains("os error 5"));
    let file = [LITTLE.header(0, 1), LITTLE.record(0, 0, b"first")].concat();
    let mut reader = PcapReader::new(Failing(&file)).unwrap();
    assert!(reader.next_record().unwrap().is_ok());
    let damage = reader.next_record().unwrap().unwrap_err().to_string();
    assert!(
        damage.starts_with("damaged at byte 45: cannot read on:") && damage.contains("os error 5"),
        "{damage}"
    );
    assert!(reader.next_record().is_none());
}
