//! Why a call falls back. Names are stable: they stand in `fallbacks.log` and in DONE.

use std::io;

#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    pub detail: String,
}

impl Fault {
    pub fn new(name: &'static str, detail: impl Into<String>) -> Fault {
        Fault {
            name,
            detail: detail.into(),
        }
    }

    pub fn io(name: &'static str, what: &[u8], error: &io::Error) -> Fault {
        Fault {
            name,
            detail: format!("{}: {error}", display(what)),
        }
    }
}

/// Bytes for people and logs: no control characters, invalid UTF-8 replaced.
pub fn display(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
