//! A short run over a corpus without a fuzzer: each file, and what comes of it by changes that are the same in
//! every run.

use std::fs;
use std::path::Path;

/// Marsaglia's xorshift: the same changes in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + self.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let end = (at + self.below(200)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            3 => {
                let values = [0, 1, 0x7f, 0x80, 0xff];
                let value = values[self.below(values.len())];
                let count = 1 + self.below(4);
                bytes.iter_mut().skip(at).take(count).for_each(|byte| *byte = value);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }
}

/// Runs the body of a fuzz target over each file and so many changed ones of it; returns how many files.
pub fn over(corpus: &Path, changes: usize, run: fn(&[u8])) -> usize {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let mut files: Vec<_> = fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in &files {
        let original = fs::read(file).unwrap();
        run(&original);
        for _ in 0..changes {
            let mut bytes = original.clone();
            for _ in 0..=chance.below(5) {
                chance.change(&mut bytes);
            }
            run(&bytes);
        }
    }
    files.len()
}
