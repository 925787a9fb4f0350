//! A stream of bytes from outside: decompressed, peeked into, and read in bounded memory.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};

use flate2::write::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// A file, a pipe or bytes in memory. What is compressed with gzip, zstd or xz is decompressed, also twice.
///
/// Memory is bounded: a buffer of 512 KiB, and for each compression its window, at most 100 MiB.
/// A stream that breaks within its compression gives everything before, then one error, then its end.
pub struct Input {
    source: Box<dyn Read + Send>,
    /// The most that is read at a time.
    chunk: usize,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where in the decompressed stream `start` is.
    offset: u64,
    ended: bool,
    failure: Option<io::Error>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Input")
            .field("offset", &self.offset)
            .field("buffered", &self.buffered().len())
            .field("ended", &self.ended)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// More than the longest record and its headers.
pub(crate) const BUFFER: usize = 512 << 10;
/// Read at a time from outside.
const CHUNK: usize = 128 << 10;
/// Read at a time from the decompressor of xz: what it has put out in a call that fails is lost.
const XZ_CHUNK: usize = 256;
/// The largest dictionary of an xz file: `xz -9` asks for 65 MiB. zstd's window has a limit of 100 MiB in ruzstd.
const XZ_MEMORY_KIB: u32 = 100 << 10;
/// Compressions within each other that are taken off.
const NESTED: usize = 2;

impl Input {
    /// The most that [`Input::head`] returns, in bytes.
    pub const HEAD: usize = 64 << 10;

    /// # Errors
    ///
    /// Nothing can be read from the source.
    pub fn new(source: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut input = Self::of(source, CHUNK);
        for _ in 0..NESTED {
            let (decompressed, chunk): (Box<dyn Read + Send>, usize) = match *input.fill(6) {
                [0x1f, 0x8b, ..] => (Box::new(Gzip::new(input)), CHUNK),
                // A skippable frame may come first.
                [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                    (Box::new(Zstd::new(input)), CHUNK)
                }
                [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
                    (Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)), XZ_CHUNK)
                }
                _ => break,
            };
            input = Self::of(decompressed, chunk);
        }
        if input.fill(1).is_empty() { input.failure.take().map_or(Ok(input), Err) } else { Ok(input) }
    }

    fn of(source: Box<dyn Read + Send>, chunk: usize) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { source, chunk, buffer, start: 0, end: 0, offset: 0, ended: false, failure: None }
    }

    /// The next bytes, up to [`Input::HEAD`], without taking them; fewer only if the stream ends there.
    pub fn head(&mut self) -> &[u8] {
        let head = self.fill(Self::HEAD);
        &head[..head.len().min(Self::HEAD)]
    }

    /// What is buffered after at least so many bytes are; fewer only if the stream ends there. At most
    /// `BUFFER` bytes.
    pub(crate) fn fill(&mut self, wanted: usize) -> &[u8] {
        if self.end - self.start < wanted {
            self.read_on(wanted.min(BUFFER));
        }
        self.buffered()
    }

    #[cold]
    fn read_on(&mut self, wanted: usize) {
        if self.start + wanted > BUFFER || self.start == self.end {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < wanted && !self.ended {
            let limit = BUFFER.min(self.end + self.chunk);
            match self.source.read(&mut self.buffer[self.end..limit]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => (self.ended, self.failure) = (true, Some(error)),
            }
        }
    }

    /// What can be seen without reading on.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Steps over so many bytes, buffered or not; `false` if the stream ends before.
    pub(crate) fn skip(&mut self, mut count: u64) -> bool {
        loop {
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(self.end - self.start);
            self.consume(step);
            count -= step as u64;
            if count == 0 {
                return true;
            }
            if self.fill(1).is_empty() {
                return false;
            }
        }
    }

    /// Where in the decompressed stream the next byte is.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// There is nothing behind what is buffered.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Why the stream ended, if it broke.
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.fill(1).is_empty() {
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
        }
        Ok(self.buffered())
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }
}

/// All the members of a gzip file. flate2's own reader keeps to itself what it has put out before an error.
struct Gzip {
    source: Input,
    decoder: MultiGzDecoder<VecDeque<u8>>,
    failure: Option<io::Error>,
}

impl Gzip {
    /// Fed at a time, in bytes: they come out as at most a thousand times as many.
    const PIECE: usize = 1 << 10;

    fn new(source: Input) -> Self {
        Self { source, decoder: MultiGzDecoder::new(VecDeque::new()), failure: None }
    }
}

impl Read for Gzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.get_ref().is_empty() && self.failure.is_none() {
            let piece = self.source.fill(1);
            let fed = if piece.is_empty() {
                let finished = self.decoder.try_finish();
                match self.source.failure.take().map_or(finished, Err) {
                    Ok(()) if self.decoder.get_ref().is_empty() => return Ok(0),
                    ended => ended,
                }
            } else {
                let piece = &piece[..piece.len().min(Self::PIECE)];
                self.decoder.write(piece).map(|count| self.source.consume(count))
            };
            if let Err(error) = fed {
                self.failure = Some(error);
                // Hands out what is finished; that it fails again is no news.
                let _ = self.decoder.try_finish();
            }
        }
        match self.decoder.get_mut().read(buffer)? {
            0 => self.failure.take().map_or(Ok(0), Err),
            count => Ok(count),
        }
    }
}

/// All the frames of a zstd stream. ruzstd's own reader reads one, and keeps a whole window of it to itself until
/// the frame ends.
struct Zstd {
    source: Input,
    frame: FrameDecoder,
    within_frame: bool,
    failure: Option<io::Error>,
}

impl Zstd {
    /// An empty block, the last of its frame, and a checksum for frames that have one.
    const END: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

    fn new(source: Input) -> Self {
        Self { source, frame: FrameDecoder::new(), within_frame: false, failure: None }
    }

    /// Begins the next frame; `false` if there is none.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            match *self.source.fill(8) {
                [] => return self.source.failure.take().map_or(Ok(false), Err),
                [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
                    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
                    if !self.source.skip(8 + length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                _ => return self.frame.reset(&mut self.source).map(|()| true).map_err(io::Error::other),
            }
        }
    }

    /// Reads another block, or notices the end of the frame.
    fn go_on(&mut self) -> io::Result<()> {
        if !self.frame.is_finished() {
            let read = self.frame.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
            return read.map(|_| ()).map_err(io::Error::other);
        }
        self.within_frame = false;
        let expected = self.frame.get_checksum_from_data();
        if expected.is_some() && expected != self.frame.get_calculated_checksum() {
            return Err(io::Error::other("wrong checksum of a zstd frame"));
        }
        Ok(())
    }
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.failure.is_none() && self.frame.can_collect() == 0 {
            if !self.within_frame {
                self.within_frame = self.begin()?;
                if !self.within_frame {
                    return Ok(0);
                }
            } else if let Err(error) = self.go_on() {
                self.failure = Some(error);
                // Pretends that the frame ends here: what was decoded is then let go.
                let _ = self.frame.decode_blocks(&Self::END[..], BlockDecodingStrategy::All);
            }
        }
        match self.frame.read(buffer)? {
            0 => self.failure.take().map_or(Ok(0), Err),
            count => Ok(count),
        }
    }
}
