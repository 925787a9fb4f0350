//! The kernel's filter of the packet ring: a classic BPF program (Documentation/networking/filter.rst).
//!
//! It runs where a cooked packet socket starts to read, at the IP header. Through go UDP, whole or in
//! fragments, and the ICMP and `ICMPv6` errors that may quote it.

/// One instruction, as the kernel reads it: `struct sock_filter`.
pub(crate) type Instruction = libc::sock_filter;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_BYTE_AT_X: u16 = 0x50;
const LOAD_HALF: u16 = 0x28;
const X_IS_CONSTANT: u16 = 0x01;
const X_IS_A: u16 = 0x07;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const ADD_X: u16 = 0x0c;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// What is known beside the bytes: `SKF_AD_OFF` and the offsets from it (linux/filter.h).
const PROTOCOL: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = 0xffff_f004;
const INTERFACE: u32 = 0xffff_f008;
const HARDWARE: u32 = 0xffff_f01c;

const OUTGOING: u32 = 4; // linux/if_packet.h
const LOOPBACK: u32 = 772; // ARPHRD_LOOPBACK, linux/if_arp.h

/// An assembler with labels: a jump names the place it goes to.
#[derive(Default)]
struct Program {
    code: Vec<(u16, u32, Option<&'static str>, Option<&'static str>)>,
    labels: Vec<(&'static str, usize)>,
}

impl Program {
    fn label(&mut self, name: &'static str) {
        self.labels.push((name, self.code.len()));
    }

    fn add(&mut self, code: u16, operand: u32) {
        self.code.push((code, operand, None, None));
    }

    /// Jump to a label if the test holds, else go on.
    fn jump(&mut self, code: u16, operand: u32, label: &'static str) {
        self.code.push((code, operand, Some(label), None));
    }

    /// Jump to a label unless the test holds.
    fn unless(&mut self, code: u16, operand: u32, label: &'static str) {
        self.code.push((code, operand, None, Some(label)));
    }

    fn assemble(self) -> Vec<Instruction> {
        let Self { code, labels } = self;
        let distance = |from: usize, label: Option<&str>| {
            label.map_or(0, |label| {
                let (_, place) = labels.iter().find(|(name, _)| *name == label).expect("a label that is set");
                u8::try_from(place - from - 1).expect("a short jump forward")
            })
        };
        code.iter()
            .enumerate()
            .map(|(at, &(code, k, hit, miss))| Instruction {
                code,
                jt: distance(at, hit),
                jf: distance(at, miss),
                k,
            })
            .collect()
    }
}

/// The filter for packets of these interfaces, of all if there are none; `snapshot` is how much is kept of each.
///
/// What the loopback interface sends it receives as well: only that is taken.
pub(crate) fn program(interfaces: &[u32], snapshot: u32) -> Vec<Instruction> {
    let mut filter = Program::default();
    if !interfaces.is_empty() {
        filter.add(LOAD_WORD, INTERFACE);
        for &interface in interfaces {
            filter.jump(IF_EQUAL, interface, "wanted");
        }
        filter.add(RETURN, 0);
        filter.label("wanted");
    }
    filter.add(LOAD_WORD, PACKET_TYPE);
    filter.unless(IF_EQUAL, OUTGOING, "once");
    filter.add(LOAD_WORD, HARDWARE);
    filter.jump(IF_EQUAL, LOOPBACK, "drop-early");
    filter.label("once");
    // X: where the IP header starts. A tag is normally taken off by the kernel, but not a second one.
    filter.add(X_IS_CONSTANT, 0);
    filter.add(LOAD_WORD, PROTOCOL);
    filter.jump(IF_EQUAL, 0x0800, "ip");
    filter.jump(IF_EQUAL, 0x86dd, "ip");
    filter.jump(IF_EQUAL, 0x8100, "tagged");
    filter.jump(IF_EQUAL, 0x88a8, "tagged");
    filter.label("drop-early");
    filter.add(RETURN, 0);
    filter.label("tagged");
    filter.add(LOAD_HALF, 2);
    filter.jump(IF_EQUAL, 0x0800, "behind-tag");
    filter.unless(IF_EQUAL, 0x86dd, "ip"); // before Linux 6.11 a sent packet says "tagged" and starts at IP
    filter.label("behind-tag");
    filter.add(X_IS_CONSTANT, 4);
    filter.label("ip");
    filter.add(LOAD_BYTE_AT_X, 0);
    filter.add(AND, 0xf0);
    filter.jump(IF_EQUAL, 0x40, "v4");
    filter.unless(IF_EQUAL, 0x60, "drop");
    filter.add(LOAD_BYTE_AT_X, 6); // next header
    filter.jump(IF_EQUAL, 17, "keep");
    filter.jump(IF_EQUAL, 58, "icmp6");
    filter.jump(IF_EQUAL, 44, "fragment");
    filter.jump(IF_EQUAL, 0, "options"); // hop-by-hop: mostly multicast listener reports
    // Other extension headers are rare: routing, authentication, destination.
    filter.jump(IF_EQUAL, 43, "keep");
    filter.jump(IF_EQUAL, 51, "keep");
    filter.jump(IF_EQUAL, 60, "keep");
    filter.add(RETURN, 0);
    filter.label("fragment");
    filter.add(LOAD_BYTE_AT_X, 40);
    filter.jump(IF_EQUAL, 58, "keep");
    filter.label("options");
    filter.add(LOAD_BYTE_AT_X, 40); // the next header behind this one
    filter.jump(IF_EQUAL, 17, "keep");
    filter.jump(IF_EQUAL, 44, "keep");
    filter.jump(IF_EQUAL, 60, "keep");
    filter.add(RETURN, 0);
    filter.label("icmp6");
    filter.add(LOAD_BYTE_AT_X, 40);
    filter.jump(IF_GREATER, 4, "drop"); // 1 to 4 are errors about which UDP may hear (RFC 4443)
    filter.jump(IF_EQUAL, 0, "drop");
    filter.add(RETURN, snapshot);
    filter.label("v4");
    filter.add(LOAD_BYTE_AT_X, 9); // protocol
    filter.jump(IF_EQUAL, 17, "keep");
    filter.unless(IF_EQUAL, 1, "drop");
    filter.add(LOAD_HALF_AT_X, 6);
    filter.jump(IF_BITS, 0x1fff, "keep"); // a later fragment: it has no type
    filter.add(LOAD_BYTE_AT_X, 0);
    filter.add(AND, 0x0f);
    filter.add(SHIFT_LEFT, 2);
    filter.add(ADD_X, 0);
    filter.add(X_IS_A, 0);
    filter.add(LOAD_BYTE_AT_X, 0);
    filter.jump(IF_EQUAL, 3, "keep"); // unreachable, time exceeded, parameter problem (RFC 792)
    filter.jump(IF_EQUAL, 11, "keep");
    filter.unless(IF_EQUAL, 12, "drop");
    filter.label("keep");
    filter.add(RETURN, snapshot);
    filter.label("drop");
    filter.add(RETURN, 0);
    filter.assemble()
}
