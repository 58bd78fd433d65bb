//! SHA-256, written "sha256:" and 64 hex digits.
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use sha2::Sha256;

const PIECE_BYTES: usize = 256 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Digest {
    /// UNTRUSTED: worker
    pub fn parse(text: &str) -> Option<Digest> {
        parse_hex(text.strip_prefix("sha256:")?).map(Digest)
    }

    /// The 64 hex digits alone, for names of files.
    pub fn file_name(&self) -> String {
        hex(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("not a digest"))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 64 lower-case hex digits.
pub fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (pair.first().copied()?, pair.get(1).copied()?);
        *byte = value(high)? << 4 | value(low)?;
    }
    Some(bytes)
}

pub struct Hasher(Sha256);

impl Hasher {
    pub fn new() -> Hasher {
        Hasher(Sha256::new())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    /// Hashes what it copies; gives the number of bytes, and stops once that is over `bytes_max`.
    pub fn copy(&mut self, from: &mut File, to: &mut impl Write, bytes_max: u64) -> io::Result<u64> {
        let mut piece = vec![0u8; PIECE_BYTES];
        let mut total = 0u64;
        loop {
            let read = from.read(&mut piece)?;
            let bytes = piece.get(..read).unwrap_or_default();
            total = total.saturating_add(read as u64);
            if read == 0 || total > bytes_max {
                return Ok(total);
            }
            self.update(bytes);
            to.write_all(bytes)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is() {
        let mut hasher = Hasher::new();
        hasher.update(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hasher.finish().to_string(), text);
        assert_eq!(Digest::parse(text).unwrap().to_string(), text);
        for bad in ["", "sha256:", &text[1..], &text[..70], &text.to_uppercase(), &text.replace('b', "g")] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }
}
