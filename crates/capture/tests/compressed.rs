//! Streams: compressed, cut, peeked into, and too good to be true.

#[allow(dead_code, reason = "not every test file needs every packet")]
mod packets;

use std::io::{BufRead, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use packets::{FORMATS, Pieces, every_kind, read, read_bytes};
use udpkit_capture::Input;

type Compress = fn(&[u8]) -> Vec<u8>;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// One block in a container of its own: LZMA2 chunks that are not compressed. The crate's encoder is unsafe code
/// that nothing else needs.
fn xz(bytes: &[u8]) -> Vec<u8> {
    let crc32 = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let number = |mut value: usize| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(0x80 | u8::try_from(value & 0x7f).unwrap());
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
        bytes
    };
    let padded = |mut bytes: Vec<u8>| {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let with_sum = |bytes: Vec<u8>| [&bytes[..], &crc32(&bytes)].concat();
    // No check; header of 12 bytes; LZMA2 with a dictionary of 64 KiB.
    let stream_flags = [0, 0];
    let header = with_sum(vec![2, 0, 0x21, 1, 8, 0, 0, 0]);
    let mut data = Vec::new();
    for (index, chunk) in bytes.chunks(0x1_0000).enumerate() {
        data.push(if index == 0 { 1 } else { 2 });
        data.extend(u16::try_from(chunk.len() - 1).unwrap().to_be_bytes());
        data.extend(chunk);
    }
    data.push(0);
    let unpadded = header.len() + data.len();
    let index = with_sum(padded([&[0, 1][..], &number(unpadded), &number(bytes.len())].concat()));
    let backward = u32::try_from(index.len() / 4 - 1).unwrap().to_le_bytes();
    let footer = [&backward[..], &stream_flags].concat();
    [
        &b"\xfd7zXZ\0"[..],
        &stream_flags,
        &crc32(&stream_flags),
        &header,
        &padded(data),
        &index,
        &crc32(&footer),
        &footer,
        b"YZ",
    ]
    .concat()
}

const COMPRESSIONS: [(&str, Compress); 3] = [("gzip", gzip), ("zstd", zstd), ("xz", xz)];

fn capture() -> Vec<u8> {
    FORMATS[0].file(&(0..300).flat_map(|_| every_kind()).collect::<Vec<_>>())
}

#[test]
fn compressed_once_or_twice_in_one_part_or_two() {
    let file = capture();
    let expected = read_bytes(&file).unwrap();
    assert!(expected.1.damage.is_empty() && file.len() > 200_000);
    for (name, compress) in COMPRESSIONS {
        assert_eq!(read_bytes(&compress(&file)).unwrap(), expected, "{name}");
        let (first, second) = file.split_at(100_001);
        let parts = [compress(first), compress(second)].concat();
        assert_eq!(read_bytes(&parts).unwrap(), expected, "{name} in two parts");
        for (outer, compress_again) in COMPRESSIONS {
            let twice = compress_again(&compress(&file));
            assert_eq!(read_bytes(&twice).unwrap(), expected, "{name} in {outer}");
        }
    }
    let skippable = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(&file)].concat();
    assert_eq!(read_bytes(&skippable).unwrap(), expected);
    assert!(read_bytes(&gzip(&gzip(&gzip(&file)))).is_err(), "three times");
}

#[test]
fn a_stream_that_breaks_gives_what_was_before() {
    let file = capture();
    let expected = read_bytes(&file).unwrap();
    for (name, compress) in COMPRESSIONS {
        let compressed = compress(&file);
        let (said, tally) = read_bytes(&compressed[..compressed.len() * 3 / 4]).unwrap();
        assert!(
            said.len() > expected.0.len() / 10 && expected.0.starts_with(&said),
            "{name}: {}",
            said.len()
        );
        assert!(tally.damage.last().unwrap().contains("cannot read on"), "{name}: {:?}", tally.damage);
        let tail = [&compressed[..], &[0xff; 100]].concat();
        let (said, tally) = read_bytes(&tail).unwrap();
        assert_eq!(said, expected.0, "{name} with a tail");
        assert_eq!(tally.damage.len(), 1, "{name}: {:?}", tally.damage);
    }
}

#[test]
fn any_changed_byte_of_a_compressed_stream_is_survived() {
    let file = FORMATS[0].file(&every_kind());
    for (_, compress) in COMPRESSIONS {
        let mut compressed = compress(&file);
        for at in 0..compressed.len() {
            let original = compressed[at];
            for changed in [0, 0xff, original ^ 1, original ^ 0x80] {
                compressed[at] = changed;
                if let Ok(input) = Input::new(Box::new(std::io::Cursor::new(compressed.clone()))) {
                    if let Ok(mut capture) = udpkit_capture::open_capture(input) {
                        while capture.next_message().is_some() {}
                    }
                }
            }
            compressed[at] = original;
        }
    }
}

#[test]
fn bombs_are_streamed() {
    // 16 MiB of zeros in a few hundred bytes.
    let zeros = gzip(&vec![0; 1 << 20]);
    let bomb = gzip(&zeros.repeat(16));
    let mut input = Input::new(Box::new(std::io::Cursor::new(bomb))).unwrap();
    assert_eq!(input.head(), vec![0; Input::HEAD]);
    let mut length: u64 = 0;
    loop {
        let count = input.fill_buf().unwrap().len();
        if count == 0 {
            break;
        }
        assert!(count <= 1 << 20);
        input.consume(count);
        length += count as u64;
    }
    assert_eq!(length, 16 << 20);
}

#[test]
fn windows_that_nobody_needs_are_refused() {
    // A zstd frame with a window of 3.75 TiB; an xz block with a dictionary of 4 GiB.
    let zstd = [&b"\x28\xb5\x2f\xfd\x00\xff"[..], &[1, 0, 0]].concat();
    let mut xz = xz(b"abc");
    xz[12..20].copy_from_slice(&[2, 0, 0x21, 1, 40, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&xz[12..20]);
    let sum = crc.sum().to_le_bytes();
    xz[20..24].copy_from_slice(&sum);
    for bytes in [zstd, xz] {
        assert!(Input::new(Box::new(std::io::Cursor::new(bytes))).is_err());
    }
}

#[test]
fn peeking_takes_nothing() {
    for pieces in [1, 7, 100_000] {
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let mut input = Input::new(Box::new(Pieces(bytes.clone(), pieces))).unwrap();
        assert_eq!(input.head(), &bytes[..Input::HEAD]);
        assert_eq!(input.head(), &bytes[..Input::HEAD]);
        let mut all = Vec::new();
        input.read_to_end(&mut all).unwrap();
        assert!(all == bytes && input.head().is_empty());
    }
    assert!(Input::new(Box::new(std::io::empty())).unwrap().head().is_empty());
}

#[test]
fn pieces_make_no_difference() {
    let file = capture();
    let expected = read_bytes(&file).unwrap();
    for (_, compress) in COMPRESSIONS {
        assert_eq!(read(Pieces(compress(&file), 13)).unwrap(), expected);
    }
}
