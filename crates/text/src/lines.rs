//! Lines of text from outside: of bounded length, freed of what terminals, mail and web pages put around
//! them.

use std::io::{BufRead, ErrorKind};

/// The lines of a text, one at a time.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    long: u64,
    failure: Option<std::io::Error>,
}

impl<R: BufRead> Lines<R> {
    /// Bytes kept of one line. What tells the addresses stands at its start.
    pub(crate) const LENGTH: usize = 16 * 1024;

    pub(crate) fn new(input: R) -> Self {
        Self { input, line: Vec::new(), number: 0, long: 0, failure: None }
    }

    /// The next line without its end, cleaned ([`clean`]), into `line`. `false`: there is none.
    pub(crate) fn read(&mut self, line: &mut Vec<u8>) -> bool {
        line.clear();
        let (mut any, mut long) = (false, false);
        loop {
            let bytes = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.failure.get_or_insert(error);
                    break;
                }
            };
            if bytes.is_empty() {
                break;
            }
            any = true;
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let room = Self::LENGTH - line.len();
            long |= piece.len() > room;
            line.extend_from_slice(&piece[..piece.len().min(room)]);
            let used = piece.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return false;
        }
        self.number += 1;
        self.long += u64::from(long);
        if needs_cleaning(line) {
            self.line.clear();
            clean(line, &mut self.line);
            std::mem::swap(line, &mut self.line);
        }
        let kept = line.trim_ascii_end();
        // A carriage return that some program made visible.
        let kept = kept.strip_suffix(b"^M").unwrap_or(kept).len();
        line.truncate(kept);
        true
    }

    /// The number of the line that was read last, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// How many lines were longer than [`Self::LENGTH`].
    pub(crate) const fn long(&self) -> u64 {
        self.long
    }

    /// Why reading stopped before the end; told once.
    pub(crate) fn take_failure(&mut self) -> Option<std::io::Error> {
        self.failure.take()
    }
}

/// Whether [`clean`] would change the line.
pub(crate) fn needs_cleaning(line: &[u8]) -> bool {
    line.iter().any(|&byte| byte == 0x1b || byte == b'&' || byte >= 0x80)
}

/// What stands for a plain character on web pages, in mail and in UTF-8.
const REPLACED: [(&[u8], &[u8]); 8] = [
    (b"&gt;", b">"),
    (b"&lt;", b"<"),
    (b"&amp;", b"&"),
    (b"&nbsp;", b" "),
    (b"&#62;", b">"),
    (b"&quot;", b"\""),
    (b"\xc2\xa0", b" "),    // no-break space
    (b"\xef\xbb\xbf", b""), // byte order mark
];

/// Appends `line` to `cleaned` without terminal escapes (ECMA-48) and with plain characters for [`REPLACED`].
pub(crate) fn clean(line: &[u8], cleaned: &mut Vec<u8>) {
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let replaced = REPLACED.iter().find_map(|(from, to)| Some((rest.strip_prefix(*from)?, to)));
        rest = if byte == 0x1b {
            after_escape(after)
        } else if let Some((after, to)) = replaced {
            cleaned.extend_from_slice(to);
            after
        } else {
            cleaned.push(byte);
            after
        };
    }
}

/// What follows an escape sequence of which ESC was read.
fn after_escape(text: &[u8]) -> &[u8] {
    match text.split_first() {
        // Control sequence: parameters, then one final byte.
        Some((b'[', parameters)) => {
            let end = parameters.iter().position(|byte| (0x40..0x7f).contains(byte));
            &parameters[end.map_or(parameters.len(), |end| end + 1)..]
        }
        // Operating system command, up to BEL or ESC \.
        Some((b']', command)) => match command.iter().position(|&byte| byte == 7 || byte == 0x1b) {
            Some(end) => command[end..].strip_prefix(b"\x1b\\").unwrap_or(&command[end + 1..]),
            None => &[],
        },
        Some((_, after)) => after,
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn lines(input: impl Read) -> (Vec<Vec<u8>>, u64) {
        let (mut reader, mut line, mut all) =
            (Lines::new(BufReader::with_capacity(7, input)), Vec::new(), Vec::new());
        while reader.read(&mut line) {
            all.push(line.clone());
        }
        assert_eq!(reader.number(), all.len() as u64);
        (all, reader.long())
    }

    #[test]
    fn ends_colours_and_entities() {
        let text = b"one\r\n^M\n  two \n\x1b[1;32mgr\x1b[0meen\x1b]0;title\x07!\x1b]0;t\x1b\\?\na &gt; b\xc2\xa0c\nlast";
        let (all, long) = lines(&text[..]);
        let expected: [&[u8]; 6] = [b"one", b"", b"  two", b"green!?", b"a > b c", b"last"];
        assert_eq!(all, expected);
        assert_eq!(long, 0);
    }

    #[test]
    fn a_line_without_end_is_cut_and_counted() {
        let endless = std::io::repeat(b'x').take(1 << 20).chain(&b"\nshort\n"[..]);
        let (all, long) = lines(endless);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [Lines::<&[u8]>::LENGTH, 5]);
        assert_eq!(long, 1);
    }
}
