//! Who shares which descriptors: threads, their children, and what they were called.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::value::{field, inside, number};

/// The most threads at once; of more, the descriptors are not told apart.
const THREADS: usize = 10_000;
/// The most descriptors in all tables together.
const DESCRIPTORS: usize = 1_000_000;
/// The most bytes of calls that wait for their end, together.
const UNFINISHED: usize = 16 << 20;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Which of the sockets; `None`: something else.
    pub(super) socket: Option<usize>,
    /// execve(2) closes it.
    pub(super) closes: bool,
}

type Table = Rc<RefCell<HashMap<i64, Slot>>>;

struct Thread {
    table: Table,
    /// Thread group: the process.
    process: Option<u32>,
    program: Rc<str>,
    unfinished: Option<Box<[u8]>>,
}

/// What clone(2) was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sharing {
    descriptors: bool,
    process: bool,
}

impl Sharing {
    /// From the text of a call, whole or not.
    pub(super) fn of(call: &[u8]) -> Self {
        let arguments = call.iter().position(|&byte| byte == b'(').map_or(call, |open| &call[open + 1..]);
        let structure = inside(arguments).unwrap_or(arguments); // clone3(2)
        let flags = field(structure, b"flags").unwrap_or_default();
        let has = |name: &[u8], bit: i64| {
            flags.windows(name.len()).any(|window| window == name)
                || number(flags).is_some_and(|flags| flags & bit != 0)
        };
        Self { descriptors: has(b"CLONE_FILES", 0x400), process: has(b"CLONE_THREAD", 0x1_0000) }
    }
}

/// Threads by their numbers.
#[derive(Default)]
pub(super) struct Threads {
    all: HashMap<u32, Thread>,
    /// Who began a clone(2) last that has not been seen to end.
    cloning: Option<u32>,
    /// The descriptors of the first thread.
    origin: Option<Table>,
    /// Whom lines without a number turned out to be of.
    pub(super) unnamed: Option<u32>,
    descriptors: usize,
    unfinished: usize,
}

/// Of lines without a number.
pub(super) const UNNAMED: u32 = 0;

impl Threads {
    /// Whose a line is. `resumed`: it ends a call.
    pub(super) fn find(&mut self, shown: Option<u32>, resumed: bool) -> u32 {
        let Some(number) = shown else {
            // strace leaves the number out while there is one thread only.
            if self.all.len() == 1 {
                return *self.all.keys().next().unwrap_or(&UNNAMED);
            }
            return self.ensure(UNNAMED);
        };
        if self.all.contains_key(&number) {
            return number;
        }
        if let Some(parent) = self.cloning.filter(|&parent| !(resumed && parent == UNNAMED)) {
            let sharing = self.sharing_of(parent);
            self.child(parent, number, sharing);
        } else if let Some(mut unnamed) = self.all.remove(&UNNAMED) {
            // The one that began, of which only now others are told apart.
            unnamed.process = Some(number);
            self.unnamed.get_or_insert(number);
            self.all.insert(number, unnamed);
            self.cloning = self.cloning.map(|cloning| if cloning == UNNAMED { number } else { cloning });
        }
        // Else it was there before the log began: most likely a thread of the same program.
        self.ensure(number)
    }

    /// A thread that must be there. If it is not, it shares the descriptors of the first one.
    fn ensure(&mut self, number: u32) -> u32 {
        if !self.all.contains_key(&number) && self.all.len() < THREADS {
            let table = Rc::clone(self.origin.get_or_insert_default());
            let process = (number != UNNAMED).then_some(number);
            self.all.insert(number, Thread { table, process, program: "".into(), unfinished: None });
        }
        number
    }

    fn sharing_of(&self, parent: u32) -> Sharing {
        let unfinished = self.all.get(&parent).and_then(|thread| thread.unfinished.as_deref());
        unfinished.map(Sharing::of).unwrap_or_default()
    }

    /// `Process 477 attached`, of which strace tells while `parent` or another thread clones.
    pub(super) fn attached(&mut self, number: u32, call: Option<(u32, &[u8])>) {
        if let Some((parent, call)) = call {
            self.child(parent, number, Sharing::of(call));
        } else if let Some(parent) = self.cloning {
            self.child(parent, number, self.sharing_of(parent));
        } else if self.all.is_empty() {
            self.ensure(number);
        }
    }

    /// A thread that `parent` made.
    pub(super) fn child(&mut self, parent: u32, number: u32, sharing: Sharing) {
        if self.all.contains_key(&number) || self.all.len() >= THREADS {
            return;
        }
        let Some(parent) = self.all.get(&parent) else { return };
        let table = if sharing.descriptors {
            Rc::clone(&parent.table)
        } else {
            let size = parent.table.borrow().len();
            if self.descriptors + size > DESCRIPTORS {
                Table::default()
            } else {
                self.descriptors += size;
                Rc::new(RefCell::new(parent.table.borrow().clone()))
            }
        };
        let process = if sharing.process { parent.process } else { Some(number) };
        let thread = Thread { table, process, program: Rc::clone(&parent.program), unfinished: None };
        self.all.insert(number, thread);
    }

    /// A call that ends later, on another line.
    pub(super) fn begin(&mut self, thread: u32, text: &[u8], clones: bool) {
        self.resume(thread);
        if clones {
            self.cloning = Some(thread);
        }
        if self.unfinished + text.len() <= UNFINISHED {
            if let Some(thread) = self.all.get_mut(&thread) {
                self.unfinished += text.len();
                thread.unfinished = Some(text.into());
            }
        }
    }

    /// The beginning of the call that ends now.
    pub(super) fn resume(&mut self, thread: u32) -> Option<Box<[u8]>> {
        self.cloning = self.cloning.filter(|&cloning| cloning != thread);
        let text = self.all.get_mut(&thread)?.unfinished.take()?;
        self.unfinished -= text.len();
        Some(text)
    }

    pub(super) fn exited(&mut self, thread: u32) {
        self.resume(thread);
        if let Some(thread) = self.all.remove(&thread) {
            self.forget(&thread.table);
        }
    }

    /// Whose a socket is: the process, and its program.
    pub(super) fn owner(&self, thread: u32) -> (Option<u32>, Rc<str>) {
        self.all.get(&thread).map_or((None, "".into()), |it| (it.process, Rc::clone(&it.program)))
    }

    /// What a thread's program is called.
    pub(super) fn call_it(&mut self, thread: u32, program: &[u8]) {
        const LONGEST: usize = 64;
        if let Some(thread) = self.all.get_mut(&thread) {
            let name = &program[..program.len().min(LONGEST)];
            if thread.program.as_bytes() != name {
                thread.program = String::from_utf8_lossy(name).into();
            }
        }
    }

    pub(super) fn get(&self, thread: u32, descriptor: i64) -> Option<Slot> {
        self.all.get(&thread)?.table.borrow().get(&descriptor).copied()
    }

    pub(super) fn set(&mut self, thread: u32, descriptor: i64, slot: Slot) {
        let Some(thread) = self.all.get(&thread) else { return };
        let mut table = thread.table.borrow_mut();
        let there = table.contains_key(&descriptor);
        if there || self.descriptors < DESCRIPTORS {
            self.descriptors += usize::from(!there);
            table.insert(descriptor, slot);
        }
    }

    /// Closes the descriptors for which `closes` holds.
    pub(super) fn close(&mut self, thread: u32, closes: impl Fn(i64, Slot) -> bool) {
        let Some(thread) = self.all.get(&thread) else { return };
        let mut table = thread.table.borrow_mut();
        let before = table.len();
        table.retain(|&descriptor, slot| !closes(descriptor, *slot));
        self.descriptors -= before - table.len();
    }

    pub(super) fn close_one(&mut self, thread: u32, descriptor: i64) {
        let Some(thread) = self.all.get(&thread) else { return };
        let closed = thread.table.borrow_mut().remove(&descriptor);
        self.descriptors -= usize::from(closed.is_some());
    }

    /// A table of its own, which execve(2) leaves a program with.
    pub(super) fn unshare(&mut self, thread: u32) {
        let Some(thread) = self.all.get_mut(&thread) else { return };
        if Rc::strong_count(&thread.table) > 1 {
            let copy = thread.table.borrow().clone();
            if self.descriptors + copy.len() <= DESCRIPTORS {
                self.descriptors += copy.len();
                thread.table = Rc::new(RefCell::new(copy));
            }
        }
    }

    fn forget(&mut self, table: &Table) {
        if Rc::strong_count(table) == 1 {
            self.descriptors -= table.borrow().len();
        }
    }
}
