//! Reads tcpdump's text from standard input, counts it and says how fast that went; with an argument, prints
//! every message.
//!
//! `tcpdump -nr FILE | cargo run --release -p udpkit-text --example tcpdump`

use std::io::{BufReader, stdin};
use std::time::Instant;

use udpkit_capture::Messages;
use udpkit_text::{Services, Tcpdump};

fn main() {
    let begin = Instant::now();
    let mut reader = Tcpdump::new(BufReader::with_capacity(1 << 16, stdin()), Services::default());
    let print = std::env::args().len() > 1;
    while let Some(message) = reader.next_message() {
        if print {
            println!("{message:?}");
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let tally = reader.tally();
    eprintln!(
        "{tally:?}\n{:?}, {} names, {} packets, {seconds:.3} s",
        reader.clock(),
        reader.names().len(),
        tally.packets
    );
}
