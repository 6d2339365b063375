//! One JSON value per line, each line bounded.

use crate::cli::exit::{self, Code, Failure};
use crate::engine::Progress;
use crate::env::Env;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

/// Longest request, bytes. The longest real one has a few dozen.
pub const REQUEST_LEN_MAX: usize = 4 << 10;
/// Longest event, bytes: a report of a check may list many problems.
const EVENT_LEN_MAX: usize = 8 << 20;
/// Advances are gathered for this long, so that progress costs nothing.
const ADVANCE_EVERY: Duration = Duration::from_millis(100);

/// What a command asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How it is.
    Status,
    /// Upload everything.
    Sync {
        /// And check that the store holds everything.
        is_full: bool,
    },
    /// What the cache holds.
    CacheStats,
    /// Forget what can be fetched again.
    CacheClear,
    /// Check store and state.
    Fsck,
    /// Unmount, upload, end.
    Unmount {
        /// Detach at once, even if files are open.
        is_lazy: bool,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// A step begins.
    Begin { what: String, total: Option<u64> },
    /// So much more of it is done.
    Advance { n: u64 },
    /// The step is over.
    End,
    /// The request is done; nothing follows.
    Done { result: Value },
    /// It failed; nothing follows.
    Failed { code: u8, lines: Vec<String> },
}

/// Reads one line of at most `len_max` bytes; `None` at the end of the stream.
pub fn read_line(stream: &mut impl BufRead, len_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(len_max as u64 + 1).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= len_max => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"))
        }
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes one value as a line, in one write.
pub(super) fn write_line(stream: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.flush()
}

/// Why there is no result.
#[derive(Debug)]
pub enum NoResult {
    /// The other side said why.
    Failed(Failure),
    /// The other side went away, or does not speak this protocol.
    Broken(io::Error),
}

/// Passes events on to `progress` until the last, and gives that as a result.
pub fn read_events(stream: &mut impl BufRead, progress: &dyn Progress) -> Result<Value, NoResult> {
    loop {
        let line = read_line(stream, EVENT_LEN_MAX).map_err(NoResult::Broken)?;
        let line = line.ok_or_else(|| NoResult::Broken(io::ErrorKind::UnexpectedEof.into()))?;
        match serde_json::from_slice(&line).map_err(|e| NoResult::Broken(e.into()))? {
            Event::Begin { what, total } => progress.begin(&what, total),
            Event::Advance { n } => progress.advance(n),
            Event::End => progress.end(),
            Event::Done { result } => return Ok(result),
            Event::Failed { code, lines } => {
                let failure = Failure::from_lines(Code::from_number(code), &lines);
                return Err(NoResult::Failed(failure));
            }
        }
    }
}

/// Sends events; as a [`Progress`] it forwards steps to whoever waits.
///
/// Whoever waits may go away. Then progress is dropped and the work goes on.
pub(in crate::cli) struct EventSink<W> {
    env: Env,
    state: Mutex<SinkState<W>>,
}

struct SinkState<W> {
    stream: W,
    gathered: u64,
    sent_at: Duration,
}

impl<W: Write + Send> EventSink<W> {
    pub(in crate::cli) fn new(stream: W, env: &Env) -> Self {
        let state = SinkState { stream, gathered: 0, sent_at: Duration::ZERO };
        Self { env: env.clone(), state: Mutex::new(state) }
    }

    /// Sends the last event. An error says that nobody waits any more.
    pub(in crate::cli) fn finish(&self, outcome: &anyhow::Result<Value>) -> io::Result<()> {
        let event = match outcome {
            Ok(result) => Event::Done { result: result.clone() },
            Err(error) => {
                Event::Failed { code: exit::code_of(error).number(), lines: exit::lines_of(error) }
            }
        };
        write_line(&mut self.state.lock().stream, &event)
    }

    fn send(&self, event: &Event) {
        let mut state = self.state.lock();
        state.flush_advance();
        // See above: progress nobody reads is no failure.
        drop(write_line(&mut state.stream, event));
    }
}

impl<W: Write> SinkState<W> {
    fn flush_advance(&mut self) {
        let n = std::mem::take(&mut self.gathered);
        if n > 0 {
            drop(write_line(&mut self.stream, &Event::Advance { n }));
        }
    }
}

impl<W: Write + Send> Progress for EventSink<W> {
    fn begin(&self, what: &str, total: Option<u64>) {
        self.send(&Event::Begin { what: what.to_owned(), total });
    }

    fn advance(&self, n: u64) {
        let now = self.env.monotonic();
        let mut state = self.state.lock();
        state.gathered += n;
        if now.saturating_sub(state.sent_at) >= ADVANCE_EVERY {
            state.sent_at = now;
            state.flush_advance();
        }
    }

    fn end(&self) {
        self.send(&Event::End);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_bounded() {
        let mut stream = &b"abc\nde"[..];
        assert_eq!(read_line(&mut stream, 3).unwrap().unwrap(), b"abc");
        assert_eq!(read_line(&mut stream, 3).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read_line(&mut stream, 3).unwrap(), None);
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        let error = read_line(&mut endless, 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            read_line(&mut &b"abcd\n"[..], 3).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn requests_have_one_spelling() {
        let text = serde_json::to_string(&Request::Unmount { is_lazy: true }).unwrap();
        assert_eq!(text, r#"{"request":"unmount","is_lazy":true}"#);
        assert!(serde_json::from_str::<Request>(r#"{"request":"sync"}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"request":"mkfs"}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut stream = &bytes[..];
            drop(read_events(&mut stream, &crate::cli::progress::Silent));
            drop(serde_json::from_slice::<Request>(&bytes));
        }
    }
}
