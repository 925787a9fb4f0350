//! UDP datagrams that the kernel drops, with its reason, and the ICMP errors that it sends about them: the
//! tracepoints `skb:kfree_skb` and `icmp:icmp_send`.
//!
//! The tracepoints' own fields do not tell whose datagram it was. A program of some sixty instructions, run by
//! the kernel at the tracepoint, copies the start of the packet beside them. Where the members of the kernel's
//! structures are, the kernel's own type information says. All of it is gone when the descriptors are closed:
//! nothing is left behind, whatever way the process ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::address::array;
use crate::bpf::{self, Counter, Instruction, Records};
use crate::btf::Btf;

const TYPES: &str = "/sys/kernel/btf/vmlinux";
const SYMBOLS: &str = "/proc/kallsyms";
const PREFIX: &str = "SKB_DROP_REASON_";
/// Bytes of the packet, from its IP header on: the longest IPv4 header, or the IPv6 one, and the UDP header.
const HEADER: usize = 72;
const RECORD: usize = 24 + HEADER;
/// In the place of a reason: an ICMP error was sent, whose type and code are the lower two bytes.
const ICMP_SENT: u32 = 1 << 30;
/// Not an error (RFC 792).
const ICMP_REDIRECT: i32 = 5;
/// Bytes of records that may wait: ten thousand.
const ROOM: usize = 1 << 20;

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was dropped.
    Dropped {
        /// The kernel's reason, without its prefix: `NETFILTER_DROP`; a number if it has no name.
        reason: String,
        /// The function that dropped it, or its address where names are hidden.
        function: String,
    },
    /// Its sender is told by ICMP; a firewall that rejects says so before it drops.
    IcmpSent {
        /// As in the ICMP header (RFC 792).
        icmp_type: u8,
        /// Within the type.
        code: u8,
    },
}

/// What the kernel says of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEvent {
    /// When: nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// What became of it.
    pub fate: Fate,
    /// Inode of the network namespace it was in, as of `/proc/self/ns/net`; 0 if the kernel had forgotten.
    pub namespace: u32,
    /// The start of the packet, from its IP header on.
    pub header: [u8; HEADER],
}

/// Watches the drops of UDP datagrams on this machine for one of [`Drops::REASONS`], from `open` on, and the
/// ICMP errors about UDP that it sends (Linux 6.11 and later; not `ICMPv6`, which has no tracepoint).
///
/// Not among them: later fragments, and datagrams with IPv6 extension headers.
pub struct Drops {
    _attached: [OwnedFd; 2],
    sent: Option<[OwnedFd; 2]>,
    records: Records,
    lost: Counter,
    reasons: HashMap<u32, String>,
    symbols: Option<File>,
    functions: HashMap<u64, String>,
}

impl Drops {
    /// The reasons that are told. Others are told by ICMP, or are somebody else's business, and there may be
    /// many: every datagram for another host that a link in promiscuous mode hears is one.
    pub const REASONS: [&str; 4] = ["NETFILTER_DROP", "IP_RPFILTER", "SOCKET_RCVBUFF", "UDP_CSUM"];

    /// Begin to watch.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_BPF` and `CAP_PERFMON`; `NotFound` or `Unsupported` where the kernel is
    /// too old (5.17 has the reasons) or was built without what this needs.
    pub fn open() -> io::Result<Self> {
        let bytes = std::fs::read(TYPES)?;
        let places = Btf::read(&bytes).and_then(|types| Some((Places::find(&types)?, reasons(&types))));
        let Some((places, reasons)) = places else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel gives no reasons for drops"));
        };
        let (records, lost) = (Records::new(ROOM)?, Counter::new()?);
        let attach = |tracepoint, name| {
            let program = program(&places, records.map.as_raw_fd(), lost.map.as_raw_fd(), tracepoint);
            bpf::attach(&program, name)
        };
        let attached = attach(Tracepoint::DropWithSocket, c"kfree_skb")
            .or_else(|_| attach(Tracepoint::Drop, c"kfree_skb"))?;
        let sent = attach(Tracepoint::IcmpSend, c"icmp_send").ok();
        // Opened with privilege: whether symbols have addresses is decided then.
        let symbols = File::open(SYMBOLS).ok();
        Ok(Self { _attached: attached, sent, records, lost, reasons, symbols, functions: HashMap::new() })
    }

    /// What the kernel said next, if it did.
    pub fn next_event(&mut self) -> Option<KernelEvent> {
        let record: [u8; RECORD] = self.records.next()?;
        let location = u64::from_ne_bytes(array(&record, 8)?);
        let reason = u32::from_ne_bytes(array(&record, 16)?);
        let fate = if reason & ICMP_SENT == 0 {
            Fate::Dropped {
                reason: self.reasons.get(&reason).cloned().unwrap_or_else(|| reason.to_string()),
                function: self.function(location),
            }
        } else {
            let [code, icmp_type, ..] = reason.to_le_bytes();
            Fate::IcmpSent { icmp_type, code }
        };
        Some(KernelEvent {
            monotonic_ns: u64::from_ne_bytes(array(&record, 0)?),
            fate,
            namespace: u32::from_ne_bytes(array(&record, 20)?),
            header: array(&record, 24)?,
        })
    }

    /// Whether the kernel tells what ICMP errors it sends.
    #[must_use]
    pub fn tells_errors(&self) -> bool {
        self.sent.is_some()
    }

    /// Events that were not told because nobody had read the ones before.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.value()
    }

    fn function(&mut self, location: u64) -> String {
        let symbols = &mut self.symbols;
        self.functions
            .entry(location)
            .or_insert_with(|| {
                let name = symbols.as_mut().and_then(|file| symbol(file, location));
                name.unwrap_or_else(|| format!("{location:#x}"))
            })
            .clone()
    }
}

/// The last function that starts at or before an address. `None` where addresses are hidden.
fn symbol(file: &mut File, location: u64) -> Option<String> {
    file.rewind().ok()?;
    let mut best = None;
    for line in BufReader::with_capacity(1 << 16, file).lines() {
        let line = line.ok()?;
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some("t" | "T" | "w" | "W"), Some(name)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let address = u64::from_str_radix(address, 16).ok()?;
        if 0 < address && address <= location && best.as_ref().is_none_or(|&(found, _)| found < address) {
            best = Some((address, name.to_owned()));
        }
    }
    best.map(|(_, name)| name)
}

fn reasons(types: &Btf<'_>) -> HashMap<u32, String> {
    let mut names = types.names("skb_drop_reason");
    for name in names.values_mut() {
        if let Some(short) = name.strip_prefix(PREFIX) {
            *name = short.to_owned();
        }
    }
    names
}

/// Where the members that are read are, in bytes, and the reasons that are told.
struct Places {
    head: i32,
    network_header: i32,
    socket: i32,
    device: i32,
    network_of_socket: i32,
    network_of_device: i32,
    number_of_network: i32,
    /// The numbers of [`Drops::REASONS`]; a kernel may lack some.
    reasons: Vec<i32>,
}

impl Places {
    fn find(types: &Btf<'_>) -> Option<Self> {
        let names = types.names("skb_drop_reason").into_iter();
        let wanted = names.filter(|(_, name)| {
            name.strip_prefix(PREFIX).is_some_and(|short| Drops::REASONS.contains(&short))
        });
        let reasons: Vec<_> = wanted.filter_map(|(number, _)| i32::try_from(number).ok()).collect();
        if reasons.is_empty() {
            return None;
        }
        Some(Self {
            head: types.offset(&["sk_buff", "head"])?,
            network_header: types.offset(&["sk_buff", "network_header"])?,
            socket: types.offset(&["sk_buff", "sk"])?,
            device: types.offset(&["sk_buff", "dev"])?,
            network_of_socket: types.offset(&["sock", "__sk_common", "skc_net", "net"])?,
            network_of_device: types.offset(&["net_device", "nd_net", "net"])?,
            number_of_network: types.offset(&["net", "ns", "inum"])?,
            reasons,
        })
    }
}

// Registers: arguments and results in 0 to 5; 6 to 9 stay; 10 is the end of the stack.
const CONTEXT: u8 = 6;
const PACKET: u8 = 7;
const REASON: u8 = 8;
const END: u8 = 10;

// Places on the stack, from its end: the record, and room for a value that was read.
const TIME: i16 = -96;
const LOCATION: i16 = -88;
const REASON_OF_RECORD: i16 = -80;
const NAMESPACE: i16 = -76;
const START: i16 = -72;
const VALUE: i16 = -104;

// Operations (`Documentation/bpf/standardization/instruction-set.rst`).
const MOVE: u8 = 0xbf;
const MOVE_WORD: u8 = 0xbc;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const ADD_REGISTER: u8 = 0x0f;
const SHIFT_LEFT: u8 = 0x67;
const SHIFT_RIGHT: u8 = 0x77;
const LOAD: u8 = 0x79;
const LOAD_HALF: u8 = 0x69;
const LOAD_BYTE: u8 = 0x71;
const STORE: u8 = 0x7b;
const STORE_WORD: u8 = 0x63;
const STORE_ZERO: u8 = 0x7a;
const ADD_ATOMIC: u8 = 0xdb;
const JUMP: u8 = 0x05;
const IF_EQUAL: u8 = 0x15;
const IF_UNEQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD_WIDE: u8 = 0x18;
/// What a wide load's number is: a map, or the place of a map's value.
const A_MAP: u8 = 1;
const A_VALUE: u8 = 2;

// Helpers (bpf-helpers(7)).
const KTIME_GET_NS: i32 = 5;
const PROBE_READ_KERNEL: i32 = 113;
const RINGBUF_OUTPUT: i32 = 130;

/// Places that are jumped to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Wanted,
    Version6,
    Datagram,
    Socket,
    Network,
    Out,
}

#[derive(Default)]
struct Program {
    code: Vec<(Instruction, Option<Label>)>,
    labels: Vec<(Label, usize)>,
}

impl Program {
    fn add(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        self.code.push((Instruction { code, registers: to | from << 4, offset, immediate }, None));
    }

    fn jump(&mut self, code: u8, register: u8, number: i32, label: Label) {
        self.add(code, register, 0, 0, number);
        self.code.last_mut().expect("just added").1 = Some(label);
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.code.len()));
    }

    fn load_wide(&mut self, to: u8, what: u8, number: i32) {
        self.add(LOAD_WIDE, to, what, 0, number);
        self.add(0, 0, 0, 0, 0);
    }

    /// Read `length` bytes at the address in `from` plus `offset` to a place on the stack; zeros if that fails.
    fn read(&mut self, place: i16, length: i32, from: u8, offset: i32) {
        self.add(MOVE, 3, from, 0, 0);
        self.add(ADD, 3, 0, 0, offset);
        self.add(MOVE, 1, END, 0, 0);
        self.add(ADD, 1, 0, 0, i32::from(place));
        self.add(SET, 2, 0, 0, length);
        self.add(CALL, 0, 0, 0, PROBE_READ_KERNEL);
    }

    fn assemble(self) -> Vec<Instruction> {
        let Self { code, labels } = self;
        let place = |label| labels.iter().find(|(set, _)| *set == label).expect("a label that is set").1;
        code.into_iter()
            .enumerate()
            .map(|(at, (mut instruction, label))| {
                if let Some(label) = label {
                    instruction.offset = i16::try_from(place(label) - at - 1).expect("a short jump forward");
                }
                instruction
            })
            .collect()
    }
}

/// Where a program runs, and what its arguments are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tracepoint {
    /// Packet, place, reason.
    Drop,
    /// And the receiving socket: Linux 6.11 and later.
    DropWithSocket,
    /// Packet, ICMP type, code.
    IcmpSend,
}

/// What runs at a tracepoint.
fn program(places: &Places, records: i32, lost: i32, tracepoint: Tracepoint) -> Vec<Instruction> {
    let mut run = Program::default();
    run.add(MOVE, CONTEXT, 1, 0, 0);
    run.add(LOAD, PACKET, CONTEXT, 0, 0);
    if tracepoint == Tracepoint::IcmpSend {
        run.add(LOAD, REASON, CONTEXT, 8, 0);
        run.jump(IF_EQUAL, REASON, ICMP_REDIRECT, Label::Out);
        run.add(SHIFT_LEFT, REASON, 0, 0, 8);
        run.add(LOAD, 1, CONTEXT, 16, 0);
        run.add(ADD_REGISTER, REASON, 1, 0, 0);
        run.add(ADD, REASON, 0, 0, i32::try_from(ICMP_SENT).expect("2^30"));
    } else {
        run.add(LOAD, REASON, CONTEXT, 16, 0);
        run.add(MOVE_WORD, REASON, REASON, 0, 0);
        for &reason in &places.reasons {
            run.jump(IF_EQUAL, REASON, reason, Label::Wanted);
        }
        run.jump(JUMP, 0, 0, Label::Out);
        run.label(Label::Wanted);
    }
    // The IP header: skb->head + skb->network_header.
    run.read(VALUE, 8, PACKET, places.head);
    run.add(LOAD, 9, END, VALUE, 0);
    run.read(VALUE, 2, PACKET, places.network_header);
    run.add(LOAD_HALF, 1, END, VALUE, 0);
    run.add(ADD_REGISTER, 9, 1, 0, 0);
    run.read(START, i32::try_from(HEADER).expect("72"), 9, 0);
    run.jump(IF_UNEQUAL, 0, 0, Label::Out);
    run.add(LOAD_BYTE, 1, END, START, 0);
    run.add(SHIFT_RIGHT, 1, 0, 0, 4);
    run.jump(IF_EQUAL, 1, 6, Label::Version6);
    run.jump(IF_UNEQUAL, 1, 4, Label::Out);
    run.add(LOAD_BYTE, 1, END, START + 9, 0);
    run.jump(IF_UNEQUAL, 1, libc::IPPROTO_UDP, Label::Out);
    run.jump(JUMP, 0, 0, Label::Datagram);
    run.label(Label::Version6);
    run.add(LOAD_BYTE, 1, END, START + 6, 0);
    run.jump(IF_UNEQUAL, 1, libc::IPPROTO_UDP, Label::Out);
    run.label(Label::Datagram);
    run.add(CALL, 0, 0, 0, KTIME_GET_NS);
    run.add(STORE, END, 0, TIME, 0);
    run.add(LOAD, 1, CONTEXT, 8, 0);
    run.add(STORE, END, 1, LOCATION, 0);
    run.add(STORE_WORD, END, REASON, REASON_OF_RECORD, 0);
    // The namespace: of the receiving socket, of the sending one, or of the device. A packet in a socket's
    // queue has something else where the device was; reading there fails.
    run.add(STORE_ZERO, END, 0, VALUE, 0);
    if tracepoint == Tracepoint::DropWithSocket {
        run.add(LOAD, 1, CONTEXT, 24, 0);
        run.jump(IF_UNEQUAL, 1, 0, Label::Socket);
    }
    run.read(VALUE, 8, PACKET, places.socket);
    run.add(LOAD, 1, END, VALUE, 0);
    run.jump(IF_UNEQUAL, 1, 0, Label::Socket);
    run.read(VALUE, 8, PACKET, places.device);
    run.add(LOAD, 9, END, VALUE, 0);
    run.add(ADD, 9, 0, 0, places.network_of_device);
    run.jump(JUMP, 0, 0, Label::Network);
    run.label(Label::Socket);
    run.add(MOVE, 9, 1, 0, 0);
    run.add(ADD, 9, 0, 0, places.network_of_socket);
    run.label(Label::Network);
    run.read(VALUE, 8, 9, 0);
    run.add(LOAD, 9, END, VALUE, 0);
    run.read(NAMESPACE, 4, 9, places.number_of_network);
    run.load_wide(1, A_MAP, records);
    run.add(MOVE, 2, END, 0, 0);
    run.add(ADD, 2, 0, 0, i32::from(TIME));
    run.add(SET, 3, 0, 0, i32::try_from(RECORD).expect("96"));
    run.add(SET, 4, 0, 0, 0);
    run.add(CALL, 0, 0, 0, RINGBUF_OUTPUT);
    run.jump(IF_EQUAL, 0, 0, Label::Out);
    run.load_wide(1, A_VALUE, lost);
    run.add(SET, 2, 0, 0, 1);
    run.add(ADD_ATOMIC, 1, 2, 0, 0);
    run.label(Label::Out);
    run.add(SET, 0, 0, 0, 0);
    run.add(EXIT, 0, 0, 0, 0);
    run.assemble()
}
