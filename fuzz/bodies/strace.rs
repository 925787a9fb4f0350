//! Any bytes as a log of strace: it ends, and what is said of it is within its lines.

use udpkit_text::strace::{is_strace, read};

/// Reads the bytes.
pub fn run(data: &[u8]) {
    let _ = is_strace(data);
    let trace = read(data);
    let lines = data.split(|byte| *byte == b'\n').count() as u64;
    assert!(trace.tally.packets <= lines && trace.carrying <= trace.tally.packets);
    for socket in &trace.sockets {
        for calls in &socket.calls {
            assert!(calls.count > 0 && calls.first.line <= calls.last.line && calls.last.line <= lines);
        }
    }
}
