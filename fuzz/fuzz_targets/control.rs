//! The control socket, both sides: requests that a daemon is sent, and events that
//! it answers with.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tgcryptfs::cli::control::protocol::{
    NoResult, REQUEST_LEN_MAX, Request, read_events, read_line,
};
use tgcryptfs::engine::Progress;

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

fuzz_target!(|input: &[u8]| {
    let mut stream = input;
    while let Ok(Some(line)) = read_line(&mut stream, REQUEST_LEN_MAX) {
        assert!(line.len() <= REQUEST_LEN_MAX && !line.contains(&b'\n'));
        if let Ok(request) = serde_json::from_slice::<Request>(&line) {
            let text = serde_json::to_vec(&request).expect("requests are plain");
            assert_eq!(serde_json::from_slice::<Request>(&text).ok(), Some(request));
        }
    }
    if let Err(NoResult::Failed(failure)) = read_events(&mut &input[..], &Silent) {
        assert!(failure.code().number() != 0);
    }
});
