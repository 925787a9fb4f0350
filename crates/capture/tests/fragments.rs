//! Datagrams in fragments: whole in any order, lost when a part is missing, and bounded.

#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use packets::{FORMATS, Format, Ng, Said, ethernet_v4, ethernet_v6, fragment4, ipv6, read_bytes, udp4, udp6};
use udpkit_capture::Tally;

const NANO: Format = FORMATS[1];

/// A datagram of 40 bytes of payload in six fragments of one id.
fn parts4(id: u16) -> Vec<Vec<u8>> {
    let udp = &udp4(&[7; 40])[20..];
    let chunks: Vec<&[u8]> = udp.chunks(8).collect();
    (0..).zip(&chunks).map(|(index, chunk)| with_id(fragment4(index, index < 5, chunk), id)).collect()
}

fn with_id(mut packet: Vec<u8>, id: u16) -> Vec<u8> {
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    ethernet_v4(&packet)
}

fn part6(offset: u8, more: bool, data: &[u8]) -> Vec<u8> {
    ethernet_v6(&ipv6(44, &[&[17, 0, 0, offset * 8 + u8::from(more), 0, 0, 0, 9], data].concat()))
}

/// A capture of packets at times in seconds.
fn at(packets: &[(u32, &[u8])]) -> (Vec<Said>, Tally) {
    let records = packets.iter().map(|(second, packet)| NANO.record(*second, 0, packet));
    read_bytes(&[vec![NANO.header(0, 1)], records.collect()].concat().concat()).unwrap()
}

fn together(packets: &[Vec<u8>]) -> (Vec<Said>, Tally) {
    at(&packets.iter().map(|packet| (1, &packet[..])).collect::<Vec<_>>())
}

fn kinds(said: &[Said]) -> Vec<(u64, &str)> {
    said.iter().map(|(number, _, words)| (*number, words.split(' ').next().unwrap())).collect()
}

#[test]
fn whole_in_any_order() {
    let parts = parts4(9);
    let mut order: Vec<usize> = (0..parts.len()).collect();
    let mut tried = 0;
    // Heap's algorithm: every permutation.
    let mut counters = vec![0; order.len()];
    let mut index = 0;
    while index < order.len() {
        let packets: Vec<Vec<u8>> = order.iter().map(|&part| parts[part].clone()).collect();
        let (said, tally) = together(&packets);
        assert_eq!(kinds(&said), [(6, "Datagram")], "{order:?}");
        assert!(said[0].2.contains("172.16.13.13:56789, length: 40"), "{said:?}");
        assert_eq!((tally.packets, tally.datagrams), (6, 1));
        tried += 1;
        while index < order.len() && counters[index] >= index {
            counters[index] = 0;
            index += 1;
        }
        if index < order.len() {
            order.swap(if index % 2 == 0 { 0 } else { counters[index] }, index);
            counters[index] += 1;
            index = 1;
        }
    }
    assert_eq!(tried, 720);
}

#[test]
fn overlaps_and_duplicates_are_no_parts_of_their_own() {
    let udp = &udp4(&[7; 40])[20..];
    let part = |from: u16, to: u16| {
        with_id(fragment4(from, to < 6, &udp[usize::from(from) * 8..usize::from(to) * 8]), 9)
    };
    let packets = [part(0, 2), part(0, 2), part(4, 6), part(1, 3), part(4, 5), part(0, 6), part(2, 4)];
    assert_eq!(kinds(&together(&[&packets[..5], &packets[6..]].concat()).0), [(6, "Datagram")]);
    let whole_again: Vec<Vec<u8>> = [parts4(9), parts4(9)].concat();
    assert_eq!(kinds(&together(&whole_again).0), [(6, "Datagram"), (12, "Datagram")]);
}

#[test]
fn ipv6_and_the_options_behind_its_fragment_header() {
    let udp = &udp6(&[7; 24])[40..];
    let packets = [part6(2, false, &udp[16..]), part6(0, true, &udp[..16])];
    assert_eq!(kinds(&together(&packets).0), [(2, "Datagram")]);
    // The first fragment says 60, destination options; the others need not.
    let optional = [&[17, 0, 1, 4, 0, 0, 0, 0][..], udp].concat();
    let mut first = part6(0, true, &optional[..16]);
    first[14 + 40] = 60;
    let said = together(&[first, part6(2, false, &optional[16..])]).0;
    assert!(said[0].2.contains("[fd00::d]:56789, length: 24"), "{said:?}");
}

#[test]
fn a_snapshot_length_makes_no_difference() {
    for kept in [14 + 20 + 8, 14 + 20 + 4 + 4] {
        let mut ng = Ng::new(false);
        ng.interface(1, &[]);
        for packet in parts4(9) {
            let lengths = [ng.u32(kept), ng.u32(u32::try_from(packet.len()).unwrap())].concat();
            let mut body = [&[0; 12][..], &lengths, &packet[..kept as usize]].concat();
            body.resize(body.len().next_multiple_of(4), 0);
            ng.block(6, &body);
        }
        assert_eq!(kinds(&read_bytes(&ng.bytes).unwrap().0), [(6, "Datagram")]);
    }
}

#[test]
fn what_never_becomes_whole_is_lost() {
    let parts = parts4(9);
    let other = ethernet_v4(&udp4(b"ping"));
    // Its first fragment came third.
    let seen = [(100, &parts[5][..]), (100, &parts[2]), (101, &parts[0])];
    let (said, tally) = at(&[&seen[..], &[(130, &other)]].concat());
    assert_eq!(kinds(&said), [(4, "Datagram"), (3, "FragmentLost")], "at the end");
    assert_eq!(said[1].1, Some(101_000_000_000));
    assert!(said[1].2.contains("source: 172.17.0.3:38908, destination: 172.16.13.13:56789"));
    assert_eq!((tally.packets, tally.datagrams), (4, 1), "what is lost is not counted");
    let (said, _) = at(&[&seen[..], &[(131, &other), (132, &parts[1])]].concat());
    assert_eq!(
        kinds(&said),
        [(4, "Datagram"), (3, "FragmentLost")],
        "after 30 seconds; a straggler is alone"
    );
    assert!(together(&parts[1..]).0.is_empty(), "nobody knows whose it was");

    let six = part6(0, true, &udp6(&[7; 24])[40..56]);
    let said = at(&[(100, &six), (160, &other), (161, &other), (162, &other)]).0;
    assert_eq!(
        kinds(&said)[..3],
        [(2, "Datagram"), (3, "Datagram"), (1, "FragmentLost")],
        "after 60 seconds"
    );
}

#[test]
fn what_contradicts_itself_does_not_wait() {
    let udp = &udp4(&[7; 40])[20..];
    let all = with_id(fragment4(0, true, udp), 9);
    let uneven = with_id(fragment4(0, true, &udp[..13]), 9);
    let empty = with_id(fragment4(0, true, b""), 9);
    let beyond = with_id(fragment4(8191, true, &[0; 64]), 9);
    let (said, tally) = together(&[all.clone(), uneven, empty, beyond]);
    assert_eq!((said.len(), tally.damage.len()), (0, 0), "{said:?}");
    // Cut, and nobody knows what is missing: it is what it says it is.
    assert_eq!(kinds(&together(&[all[..14 + 20 + 20].to_vec()]).0), [(1, "Datagram")]);
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_is_not_called_lost() {
    let first = &parts4(0)[0];
    let mut file = NANO.header(0, 1);
    for id in 0..60_000_u16 {
        file.extend(NANO.record(1, u32::from(id), &with_id(first[14..].to_vec(), id)));
    }
    let lost = read_bytes(&file).unwrap().0.len();
    assert!((8_000..=16_384).contains(&lost), "{lost}");

    // One datagram in so many pieces that do not touch that it is given up.
    let udp = udp4(&[7; 8000])[20..].to_vec();
    let pieces = (0..200).map(|index| with_id(fragment4(index * 2, true, &udp[..8]), 9));
    let pieces: Vec<Vec<u8>> = pieces.collect();
    assert!(together(&pieces).0.len() <= 1);
}
