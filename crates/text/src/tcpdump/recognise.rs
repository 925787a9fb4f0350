//! What is tcpdump's text, and which of its lines are a packet's.

use super::decode::{Decoded, decode};
use super::ends::{self, Port};
use super::icmp::Icmp;
use super::line::{self, Ends, Line, What};
use crate::lines::{self, Lines};
use crate::services::Services;

/// Whether a line is a packet's beyond doubt. Without "IP" before them, the ends must be addresses with
/// ports, or known names of ports, or UDP must be named.
pub(super) fn is_certain(line: &Line<'_>, services: &Services) -> bool {
    let What::Bare(text) = line.what else { return true };
    let Some(ends) = Ends::split(text) else { return false };
    let known = |end| match ends::with_port(end) {
        Some((_, Port::Number(_))) => true,
        Some((_, Port::Name(name))) => services.port(name).is_some(),
        None => false,
    };
    let said = ends.rest.map_or(Decoded::Cut, |rest| decode(rest, true));
    let ported = known(ends.source) && known(ends.destination);
    match said {
        Decoded::Udp { sure: true, .. } => ported,
        Decoded::Icmp(icmp) => line.time.is_some() || icmp != Icmp::Other,
        _ => ends.are_numbers() || (line.time.is_some() && (ported || ends.are_addresses())),
    }
}

/// Whether a text that begins like this is tcpdump's: a packet's line, or its banner.
///
/// A line that another program printed about packets, in quotation marks or in a call's arguments, is not.
#[must_use]
pub fn is_tcpdump(head: &[u8]) -> bool {
    let (services, mut cleaned) = (Services::default(), Vec::new());
    head.split(|byte| *byte == b'\n').any(|text| {
        let mut text = &text[..text.len().min(Lines::<&[u8]>::LENGTH)];
        if lines::needs_cleaning(text) {
            cleaned.clear();
            lines::clean(text, &mut cleaned);
            text = &cleaned;
        }
        let text = text.trim_ascii_end();
        is_banner(text)
            || line::read(text).is_some_and(|line| is_certain(&line, &services) && is_telling(&line))
    })
}

/// Whether a line alone is reason enough to take the text for tcpdump's. Other logs have words of other
/// protocols too.
fn is_telling(line: &Line<'_>) -> bool {
    !matches!(line.what, What::Other)
}

/// What tcpdump writes before the first packet.
fn is_banner(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"tcpdump: ").unwrap_or(text);
    let opened = text.starts_with(b"listening on ") || text.starts_with(b"reading from file ");
    (opened && line::after(text, b", link-type ").is_some())
        || text.starts_with(b"verbose output suppressed, use -v")
}
