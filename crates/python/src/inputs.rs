//! Files, pipes and bytes that are evidence, and what tells the user how reading goes on.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use udpkit_capture::{CaptureKind, Messages, check_capture, is_capture, open_capture};
use udpkit_text::strace::is_strace;
use udpkit_text::{Services, Tcpdump, is_tcpdump};

use crate::descriptor;
use crate::errors::{Error, Result};

/// So often at most signals are looked for and progress is told.
const PAUSE: Duration = Duration::from_millis(250);

/// What a file is. One line here and one in each `match` below makes a reader known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pcap,
    Pcapng,
    Tcpdump,
    Strace,
}

impl Kind {
    fn of(head: &[u8]) -> Option<Self> {
        match is_capture(head) {
            Some(CaptureKind::Pcap) => Some(Self::Pcap),
            Some(CaptureKind::Pcapng) => Some(Self::Pcapng),
            None if is_strace(head) => Some(Self::Strace),
            None if is_tcpdump(head) => Some(Self::Tcpdump),
            None => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pcap => "pcap",
            Self::Pcapng => "pcapng",
            Self::Tcpdump => "tcpdump",
            Self::Strace => "strace",
        }
    }

    /// Messages are numbered by lines, not by packets.
    pub(crate) fn is_text(self) -> bool {
        match self {
            Self::Pcap | Self::Pcapng => false,
            Self::Tcpdump | Self::Strace => true,
        }
    }

    pub(crate) fn open(self, input: udpkit_capture::Input) -> Result<Box<dyn Messages + Send>> {
        match self {
            Self::Pcap | Self::Pcapng => Ok(open_capture(input)?),
            Self::Tcpdump => Ok(Box::new(Tcpdump::new(input, SERVICES.clone()))),
            Self::Strace => Err(Error::value("a log of strace has no messages".to_owned())),
        }
    }
}

/// A source of bytes, decompressed and peeked into.
#[pyclass(frozen, module = "udpkit._native")]
pub(crate) struct Input {
    /// `None` once it was read.
    stream: Mutex<Option<udpkit_capture::Input>>,
    kind: Option<Kind>,
    tap: Arc<Tap>,
}

/// What an input is made from.
#[derive(FromPyObject)]
enum From {
    Descriptor(i32),
    Bytes(PyBackedBytes),
    Path(PathBuf),
}

#[pymethods]
impl Input {
    #[new]
    #[pyo3(signature = (source, /))]
    fn new(py: Python<'_>, source: From) -> Result<Self> {
        let tap = Arc::new(Tap::default());
        let source: Box<dyn Read + Send> = match source {
            From::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
            From::Path(path) => Box::new(File::open(path)?),
            From::Descriptor(fd) => Box::new(File::from(descriptor::borrow(fd)?.try_clone_to_owned()?)),
        };
        let tapped = Tapped { source, tap: Arc::clone(&tap) };
        let opened = py.detach(|| {
            let mut input = udpkit_capture::Input::new(Box::new(tapped))?;
            let kind = Kind::of(input.head());
            // Here, so that it fails alone, and not with all that it is read together with.
            if let Some(Kind::Pcap | Kind::Pcapng) = kind {
                check_capture(&mut input)?;
            }
            Result::Ok((input, kind))
        });
        tap.watch().raised()?;
        let (input, kind) = opened?;
        Ok(Self { stream: Mutex::new(Some(input)), kind, tap })
    }

    #[getter]
    fn kind(&self) -> Option<&'static str> {
        self.kind.map(Kind::name)
    }

    #[getter]
    fn head(&self, py: Python<'_>) -> Vec<u8> {
        py.detach(|| locked(&self.stream).as_mut().map_or_else(Vec::new, |input| input.head().to_vec()))
    }

    #[pyo3(signature = (limit, /))]
    fn text(&self, py: Python<'_>, limit: u64) -> Result<String> {
        let mut text = Vec::new();
        let read = py.detach(|| match &mut *locked(&self.stream) {
            Some(input) => input.take(limit).read_to_end(&mut text),
            None => Ok(0),
        });
        self.tap.watch().raised()?;
        // Of a stream that breaks, what came before is there.
        if let (Err(error), true) = (read, text.is_empty()) {
            return Err(error.into());
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Input {
    /// The input, which can be read once, as messages; `watch` is told of what is read. Called without the GIL, as
    /// `stream` is: another thread may hold the lock while it waits for the GIL.
    pub(crate) fn open(&self, watch: &Arc<Watch>) -> Result<(Kind, Box<dyn Messages + Send>)> {
        let kind = self.kind.ok_or_else(|| Error::value("not a capture".to_owned()))?;
        Ok((kind, kind.open(self.stream(watch)?)?))
    }

    /// The input, which can be read once, as it is; `watch` is told of what is read.
    pub(crate) fn stream(&self, watch: &Arc<Watch>) -> Result<udpkit_capture::Input> {
        let input = locked(&self.stream).take();
        let input = input.ok_or_else(|| Error::value("it has been read already".to_owned()))?;
        watch.add(self.tap.watch().bytes.load(Ordering::Relaxed));
        *locked(&self.tap.0) = Arc::clone(watch);
        Ok(input)
    }
}

/// The names of ports on this host: services(5), and behind them IANA's.
static SERVICES: LazyLock<Services> =
    LazyLock::new(|| Services::with(&std::fs::read_to_string("/etc/services").unwrap_or_default()));

/// The UDP port that a name stands for.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub(crate) fn udp_port(name: &str) -> Option<u16> {
    SERVICES.port(name.as_bytes())
}

/// Who is told of what an input reads: nobody until it is read for its messages.
#[derive(Default)]
struct Tap(Mutex<Arc<Watch>>);

impl Tap {
    fn watch(&self) -> Arc<Watch> {
        Arc::clone(&locked(&self.0))
    }
}

struct Tapped {
    source: Box<dyn Read + Send>,
    tap: Arc<Tap>,
}

impl Read for Tapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer);
        let watch = self.tap.watch();
        let interrupted = matches!(&read, Err(error) if error.kind() == io::ErrorKind::Interrupted);
        if let Ok(count) = read {
            watch.add(count as u64);
        }
        if watch.go_on(interrupted) { read } else { Err(io::Error::other("interrupted")) }
    }
}

/// Looks for signals, and tells how far reading is.
pub(crate) struct Watch {
    progress: Option<Py<PyAny>>,
    bytes: AtomicU64,
    looked: Mutex<Instant>,
    /// What a signal's handler or the callback raised.
    raised: Mutex<Option<PyErr>>,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Watch {
    pub(crate) fn new(progress: Option<Py<PyAny>>) -> Self {
        let (looked, raised) = (Mutex::new(Instant::now()), Mutex::new(None));
        Self { progress, bytes: AtomicU64::new(0), looked, raised }
    }

    fn add(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// `false`: something was raised, and reading is to end. Called without the GIL.
    pub(crate) fn go_on(&self, at_once: bool) -> bool {
        let mut looked = locked(&self.looked);
        if at_once || looked.elapsed() >= PAUSE {
            *looked = Instant::now();
            let told = Python::attach(|py| {
                py.check_signals()?;
                match &self.progress {
                    Some(progress) => progress.call1(py, (self.bytes.load(Ordering::Relaxed),)).map(drop),
                    None => Ok(()),
                }
            });
            if let Err(error) = told {
                *locked(&self.raised) = Some(error);
            }
        }
        locked(&self.raised).is_none()
    }

    /// Raises what was raised.
    pub(crate) fn raised(&self) -> Result<()> {
        locked(&self.raised).take().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// A panic elsewhere leaves nothing half done in what is locked here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
