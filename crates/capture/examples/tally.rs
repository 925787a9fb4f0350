//! Counts what captures say about UDP: `tally FILE…` prints a line of tab-separated figures for each;
//! `tally --messages FILE…` every message before it.

use std::fs::File;

use udpkit_capture::{Input, Message, Tally, open_capture};

fn main() {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let messages = paths.first().is_some_and(|first| first == "--messages");
    for path in paths.drain(usize::from(messages)..) {
        match count(&path, messages) {
            Ok((tally, lost)) => println!(
                "{path}\t{}\t{}\t{}\t{lost}\t{:?}\t{:?}",
                tally.packets, tally.datagrams, tally.icmp_errors, tally.unread, tally.damage
            ),
            Err(error) => println!("{path}\t{error}"),
        }
    }
}

fn count(path: &str, messages: bool) -> Result<(Tally, u64), Box<dyn std::error::Error>> {
    let mut capture = open_capture(Input::new(Box::new(File::open(path)?))?)?;
    let mut lost = 0;
    while let Some(said) = capture.next_message() {
        lost += u64::from(matches!(said.message, Message::FragmentLost { .. }));
        if messages {
            println!("{}\t{:?}\t{:?}", said.number, said.time_ns, said.message);
        }
    }
    Ok((capture.tally().clone(), lost))
}
