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

impl Fault {
    /// Whether the daemon has had its say, and it was that a compiler here is the one.
    pub fn follows_exec(&self) -> bool {
        matches!(self.name, "exec" | "namespace")
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.detail.as_str() {
            "" => formatter.write_str(self.name),
            detail => write!(formatter, "{}: {detail}", self.name),
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
