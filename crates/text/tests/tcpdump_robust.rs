//! Hostile text: the fuzzer's corpus, every prefix of every line of it, and changes that are the same every
//! time.

#[path = "../../../fuzz/bodies/tcpdump.rs"]
mod body;

use std::fs;
use std::path::Path;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/tcpdump");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| (file.display().to_string(), fs::read(file).unwrap())).collect()
}

/// Knuth's linear congruential generator: 31 bits that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

#[test]
fn the_corpus() {
    let corpus = corpus();
    assert!(corpus.len() > 10);
    for (_, text) in &corpus {
        body::run(text);
    }
}

#[test]
fn every_prefix_of_every_line() {
    for (_, text) in corpus() {
        for line in text.split(|byte| *byte == b'\n') {
            for end in 0..line.len().min(400) {
                body::run(&line[..end]);
                body::run(&line[end..]);
            }
        }
    }
}

#[test]
fn changed_texts_and_noise() {
    const TOKENS: [&[u8]; 14] = [
        b" > ",
        b": ",
        b"IP ",
        b"IP6 ",
        b"(tos",
        b"\n",
        b"\n\t",
        b"VXLAN, ",
        b"ICMP ",
        b"23:59:59.9 ",
        b"::",
        b"frag (",
        b"\x1b[",
        b"GREv0",
    ];
    let corpus = corpus();
    let mut chance = Chance(1);
    for (_, text) in &corpus {
        for _ in 0..200 {
            let start = chance.below(text.len());
            let mut changed = text[start..text.len().min(start + 2000)].to_vec();
            for _ in 0..=chance.below(8) {
                let at = chance.below(changed.len());
                match chance.below(4) {
                    0 => drop(changed.splice(at..at, TOKENS[chance.below(TOKENS.len())].iter().copied())),
                    1 => changed.truncate(at),
                    2 => drop(changed.drain(at..changed.len().min(at + 30))),
                    _ if at < changed.len() => changed[at] = u8::try_from(chance.below(256)).unwrap(),
                    _ => {}
                }
            }
            body::run(&changed);
        }
    }
    for _ in 0..2000 {
        let noise: Vec<u8> = (0..200).map(|_| u8::try_from(chance.below(256)).unwrap()).collect();
        body::run(&noise);
    }
}
