//! The body of the fuzz target `capture` over its corpus and what comes of it by changes, without a fuzzer.
//!
//! What is compressed in it is from gzip, xz and zstd.
//! `UDPKIT_WRITE_CORPUS=1 cargo test -p udpkit-capture --test fuzzed` writes the corpus anew.

#[path = "../../../fuzz/bodies/capture.rs"]
mod body;
#[path = "../../../fuzz/bodies/changes.rs"]
mod changes;
#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use std::fs;
use std::path::Path;

use packets::{FORMATS, Ng, every_kind, fragment4, icmp4, ipv6, udp4, udp6};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/capture");
/// So many changed files for each of the corpus.
const CHANGES: usize = 300;

/// Small captures that together have everything that there is code for.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (index, format) in FORMATS.iter().enumerate() {
        seeds.push((format!("pcap-{index}"), format.file(&every_kind())));
    }
    for big_endian in [false, true] {
        let mut file = Ng::new(big_endian);
        file.interface(1, &[(1, b"comment"), (9, &[9]), (14, &[0, 0, 0, 1, 0, 0, 0, 1])])
            .block(4, b"names!!!");
        for (index, packet) in every_kind().iter().enumerate() {
            file.packet(0, index as u64, packet);
        }
        let length = file.u32(u32::try_from(every_kind()[0].len()).unwrap());
        let simple = [&length[..], &every_kind()[0]].concat();
        file.block(3, &simple).block(5, b"statistics").section(!big_endian).interface(101, &[]);
        file.packet(0, 7, &udp4(b"another section"));
        seeds.push((format!("pcapng-{big_endian}"), file.bytes));
    }
    let mut links = Ng::new(false);
    for (number, (link_type, header)) in (0..).zip(link_headers()) {
        links.interface(link_type, &[]);
        links.packet(number, u64::from(number), &[&header[..], &udp4(b"ping")].concat());
    }
    seeds.push(("links".into(), links.bytes));
    let mut tunnels = Ng::new(true);
    tunnels.interface(101, &[]);
    for (tick, packet) in (0..).zip(tunnelled()) {
        tunnels.packet(0, tick, &packet);
    }
    seeds.push(("tunnels".into(), tunnels.bytes));
    seeds
}

fn link_headers() -> Vec<(u16, Vec<u8>)> {
    let macs = [2; 12];
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let wireless = [&[0x88, 0, 0, 0][..], &[2; 18], &[0; 4], &snap].concat();
    vec![
        (0, vec![2, 0, 0, 0]),
        (1, [&macs[..], &[0x88, 0x47, 0, 1, 0, 0, 0, 1, 1, 0xff]].concat()),
        (1, [&macs[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21]].concat()),
        (1, [&macs[..], &[0, 40], &snap].concat()),
        (9, vec![0xff, 3, 0, 0x21]),
        (104, vec![0x0f, 0, 8, 0]),
        (105, wireless.clone()),
        (113, [&[0; 14][..], &[8, 0]].concat()),
        (127, [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wireless].concat()),
        (147, vec![]),
        (239, vec![2, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0]),
        (276, [&[8, 0][..], &[0; 18]].concat()),
    ]
}

fn tunnelled() -> Vec<Vec<u8>> {
    let within = |number: u8, payload: &[u8]| {
        let mut packet = fragment4(0, false, payload);
        packet[9] = number;
        packet
    };
    let mut vxlan = udp4(&[&[8, 0, 0, 0, 0, 0, 7, 0][..], &[2; 12], &[8, 0], &udp4(b"ping")].concat());
    vxlan[22..24].copy_from_slice(&4789_u16.to_be_bytes());
    vec![
        within(4, &udp4(b"ping")),
        within(41, &udp6(b"ping")),
        within(47, &[&[0x20, 0, 8, 0, 0, 0, 0, 1], &udp4(b"ping")[..]].concat()),
        vxlan,
        within(4, &icmp4(3, 3, [0; 4], &udp4(b"ping"))),
        within(4, &fragment4(0, true, &udp4(b"12345678")[20..])),
        ipv6(44, &[&[17, 0, 0, 1, 0, 0, 0, 9], &udp6(b"12345678")[40..]].concat()),
        ipv6(44, &[&[17, 0, 0, 16, 0, 0, 0, 9], &b"9"[..]].concat()),
    ]
}

#[test]
fn the_corpus_is_what_these_tests_make() {
    let write = std::env::var_os("UDPKIT_WRITE_CORPUS").is_some();
    for (name, bytes) in seeds() {
        let path = Path::new(CORPUS).join(name);
        if write {
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{} is another: see the top of this file", path.display());
    }
}

#[test]
fn changed_files_are_survived() {
    let files = changes::over(Path::new(CORPUS), CHANGES, body::run);
    assert!(files >= seeds().len());
}
