//! Live evidence: packets from the ring to the conversation table, in a thread of their own.
//!
//! Theory of operation. The kernel fills blocks of the ring; the thread takes one at a time, decodes it and
//! counts it in the table, under a lock. Whoever looks takes the same lock, and the ring has room for what
//! comes meanwhile. Nothing is allocated for a packet, but where packets are to be written to a file: then the
//! latest wait in a bounded buffer, since what led to a finding came before it.

#![forbid(unsafe_code)]

mod drops;
mod keeper;

pub use drops::Dropped;
pub use keeper::Ends;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use udpkit_capture::{Book, LinkType, Message, Packets};
use udpkit_datagram::{Counters, Drops, Packet, Ring};

use crate::drops::DropTable;
use crate::keeper::Keeper;

/// The thread looks this often whether it is to end, and for drops.
const TICK: Duration = Duration::from_millis(50);
/// Packets of cooked sockets start so.
const LINK: LinkType = LinkType::RAW_IP;
/// The most conversations before the table starts anew, about 100 MB; the rules know captures that start in the
/// middle.
const MOST: usize = 1 << 19;
/// The most interfaces that are told apart; what comes after is counted with the last.
const INTERFACES: usize = 1 << 12;

/// What was captured on one interface.
#[derive(Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// The packets that passed the filter.
    pub packets: Packets,
    /// UDP datagrams among them.
    pub datagrams: u64,
    /// ICMP errors about UDP datagrams.
    pub icmp_errors: u64,
}

/// Everything that was seen so far. The place of an interface in `interfaces` is its index as a source.
#[derive(Debug)]
pub struct State {
    /// The conversations.
    pub book: Book,
    /// In the order in which they were first heard of.
    pub interfaces: Vec<Interface>,
    /// The ring's.
    pub counters: Counters,
    /// What became of the thread, if it had to end.
    pub failure: Option<String>,
    /// Datagrams that the kernel dropped.
    pub drops: DropTable,
    /// How often the table has started anew.
    pub renewed: u64,
    places: HashMap<u32, u16>,
    keeper: Option<Keeper>,
}

impl State {
    fn take(&mut self, packet: &Packet<'_>) {
        let source = match self.places.get(&packet.interface) {
            Some(&source) => source,
            None => self.interface(packet.interface),
        };
        let Self { book, interfaces, keeper, .. } = self;
        let interface = &mut interfaces[usize::from(source)];
        let stamped = interface.packets.read(packet.time_ns, LINK, packet.data);
        let message = stamped.as_ref().map(|stamped| &stamped.message);
        match message {
            Some(Message::Datagram { .. }) => interface.datagrams += 1,
            Some(Message::IcmpError { .. }) => interface.icmp_errors += 1,
            Some(Message::FragmentLost { .. }) | None => {}
        }
        if let Some(keeper) = keeper {
            keeper.take(packet, message);
        }
        if let Some(stamped) = &stamped {
            book.take(source, stamped);
        }
        while let Some(lost) = interface.packets.next_lost() {
            book.take(source, &lost);
        }
    }

    fn interface(&mut self, index: u32) -> u16 {
        if self.interfaces.len() < INTERFACES {
            self.places.insert(index, u16::try_from(self.interfaces.len()).expect("few interfaces"));
            self.interfaces.push(Interface {
                index,
                packets: Packets::default(),
                datagrams: 0,
                icmp_errors: 0,
            });
        }
        u16::try_from(self.interfaces.len() - 1).expect("few interfaces")
    }

    fn renew_if_full(&mut self) {
        if self.book.len() >= MOST {
            self.book = Book::new();
            self.renewed += 1;
        }
    }

    /// Keep the packets of these conversations, those of them that are still in the buffer too.
    pub fn want(&mut self, chosen: &[Ends]) {
        if let Some(keeper) = &mut self.keeper {
            keeper.want(chosen);
        }
    }

    /// Packets that were written to the file, and why no more are, if so. `None`: there is no file.
    #[must_use]
    pub fn written(&self) -> Option<(u64, Option<&str>)> {
        self.keeper.as_ref().map(|keeper| (keeper.written, keeper.failure.as_deref()))
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    stop: AtomicBool,
    /// How many wait for the state: the thread lets them go first.
    looking: AtomicUsize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open ring, with the drops where they can be had, and the thread that reads them once it was started.
pub struct Live {
    shared: Arc<Shared>,
    opened: Option<(Ring, Option<Drops>)>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Open the ring, in the network namespace of the calling thread; nothing of it is read yet.
    ///
    /// `drops` are watched already, if they could be; `namespace` is the inode of this network namespace.
    ///
    /// # Errors
    /// Those of [`Ring::open`].
    pub fn open(
        interfaces: &[u32],
        snapshot: u32,
        memory: usize,
        drops: Option<Drops>,
        namespace: u32,
    ) -> io::Result<Self> {
        let state = State {
            book: Book::new(),
            interfaces: Vec::new(),
            counters: Counters::default(),
            failure: None,
            drops: DropTable::new(namespace),
            renewed: 0,
            places: HashMap::new(),
            keeper: None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                stop: AtomicBool::new(false),
                looking: AtomicUsize::new(0),
            }),
            opened: Some((Ring::open(interfaces, snapshot, memory)?, drops)),
            thread: None,
        })
    }

    /// Begin to read; with `write`, to keep packets for a capture file there, with at most `size` bytes in it
    /// and its predecessor together. To be called once privileges were given up: the thread has the caller's.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start(&mut self, write: Option<(&Path, u64)>) -> io::Result<()> {
        let Some((ring, drops)) = self.opened.take() else { return Ok(()) };
        if let Some((path, size)) = write {
            self.shared.lock().keeper = Some(Keeper::open(path, size)?);
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("udpkit-live".to_owned());
        self.thread = Some(thread.spawn(move || run(&shared, ring, drops))?);
        Ok(())
    }

    /// What was seen so far; the thread waits as long as this is held.
    pub fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        self.shared.looking.fetch_add(1, Ordering::Relaxed);
        let mut state = self.shared.lock();
        self.shared.looking.fetch_sub(1, Ordering::Relaxed);
        look(&mut state)
    }

    /// Read what has come, and end. What was seen can still be looked at.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                self.shared.lock().failure = Some("the reader has panicked".to_owned());
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, mut ring: Ring, mut drops: Option<Drops>) {
    let mut last = false;
    loop {
        // Read once more when told to end: a block is handed over some time after its packets came.
        last |= shared.stop.load(Ordering::Relaxed);
        let waited = ring.wait(TICK);
        // Once around at most: packets may come faster than they are read.
        for _ in 0..ring.blocks() {
            let Some(block) = ring.next_block() else { break };
            let mut state = shared.lock();
            for packet in block.packets() {
                state.take(&packet);
            }
            state.renew_if_full();
            drop(state);
            if shared.looking.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
        }
        let mut state = shared.lock();
        if let Some(drops) = &mut drops {
            let State { drops: table, book, .. } = &mut *state;
            table.read(drops, book, last);
        }
        if let Some(keeper) = &mut state.keeper {
            keeper.flush();
        }
        match ring.counters() {
            Ok(counters) => state.counters = counters,
            Err(error) => state.failure = Some(error.to_string()),
        }
        if let Err(error) = waited {
            if error.kind() != io::ErrorKind::Interrupted {
                state.failure = Some(error.to_string());
            }
        }
        if last || state.failure.is_some() {
            return;
        }
    }
}
