//! Several sources as one, in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use super::{Book, Heard};
use crate::message::{Clock, Messages};

/// After so many messages the reader is asked whether to go on.
const STEP: u64 = 1 << 15;

impl Book {
    /// Reads all sources to their ends. Their indices are their places in `sources`.
    ///
    /// Those with a date are merged by time, each in its own order: where its times go back, they count as
    /// standing still. The others follow one after the other. `go_on` is asked now and then; after a `Break`
    /// what has been read stays.
    pub fn read(
        &mut self,
        sources: &mut [Box<dyn Messages + Send>],
        mut go_on: impl FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut dated = BinaryHeap::new();
        let mut undated = Vec::new();
        let mut heads: Vec<Option<Heard>> = sources.iter_mut().map(|source| next(&mut **source)).collect();
        for ((index, source), head) in (0..).zip(sources.iter()).zip(&heads) {
            match (source.clock(), head) {
                (_, None) => {}
                (Clock::Epoch, Some(head)) => dated.push(Reverse((head.time_ns.unwrap_or(0), index))),
                (Clock::TimeOfDay, Some(_)) => undated.push(index),
            }
        }
        while let Some(Reverse((mut now, index))) = dated.pop() {
            // As long as this source is the earliest, none of the others has to be looked at.
            let until = dated.peek().map_or((u64::MAX, u16::MAX), |Reverse(next)| *next);
            while let Some(heard) = &heads[usize::from(index)] {
                if (now, index) > until {
                    dated.push(Reverse((now, index)));
                    break;
                }
                self.hear_and_ask(index, heard, &mut go_on)?;
                heads[usize::from(index)] = next(&mut *sources[usize::from(index)]);
                if let Some(Heard { time_ns: Some(time), .. }) = &heads[usize::from(index)] {
                    now = now.max(*time);
                }
            }
        }
        for index in undated {
            while let Some(heard) = heads[usize::from(index)].take() {
                self.hear_and_ask(index, &Heard { time_ns: None, ..heard }, &mut go_on)?;
                heads[usize::from(index)] = next(&mut *sources[usize::from(index)]);
            }
        }
        ControlFlow::Continue(())
    }

    fn hear_and_ask(
        &mut self,
        source: u16,
        heard: &Heard,
        go_on: &mut impl FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.hear(source, heard);
        if self.order % STEP == 0 { go_on() } else { ControlFlow::Continue(()) }
    }
}

fn next(source: &mut dyn Messages) -> Option<Heard> {
    source.next_message().map(|message| Heard::new(&message))
}
