//! The lines that worker and keeper send each other; docs/specs/keeper.md. UNTRUSTED: worker
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fault::Fault;

pub const PROTOCOL_VERSION: u32 = 1;
pub const LINE_BYTES_MAX: usize = 64 * 1024;
const MESSAGE_CHARS_MAX: usize = 1000;
const NAME_BYTES_MAX: usize = 48;

#[derive(Debug)]
pub struct Request {
    pub id: u64,
    pub what: What,
}

/// What can be asked; the set is closed.
#[derive(Debug, PartialEq)]
pub enum What {
    Hello(Hello),
    Admit(Admit),
    Start(Start),
    Expose(Expose),
    Seal(Named),
    Reserve(Named),
    Snapshot(Take),
    Destroy(Named),
    Drop(Dropped),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    id: u64,
    request: String,
    with: serde_json::Value,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    pub version: u32,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Kernel,
    Initramfs,
    Rootfs,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Admit {
    #[allow(dead_code)] // Part of the message for who reads a log of it; all kinds are kept alike.
    pub kind: Kind,
    pub path: String,
    pub sha256: Digest,
    pub bytes_max: u64,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Files {
    pub kernel: Digest,
    pub initramfs: Digest,
    pub rootfs: Option<Digest>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Start {
    pub vm: Name,
    pub memory_bytes: u64,
    pub vcpus: u64,
    pub cpu_quota_us: Option<u64>,
    pub files: Files,
    pub snapshot: Option<Name>,
    pub binding: Option<Digest>,
    pub file_bytes_max: u64,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Socket {
    Vsock,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Expose {
    pub vm: Name,
    pub socket: Socket,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub vm: Name,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Take {
    pub vm: Name,
    pub binding: Digest,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    pub snapshot: Name,
}

/// A name that is safe as one part of a path: lower-case letters, digits and "-", beginning with none of "-".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(pub String);

impl Name {
    pub fn parse(text: &str) -> Option<Name> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.starts_with('-');
        (fits && text.bytes().all(good)).then(|| Name(text.into()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        Name::parse(&text).ok_or_else(|| serde::de::Error::custom("not a name"))
    }
}

/// Reads one line, without its end. None for whatever is not a request to the letter.
pub fn parse(line: &[u8]) -> Option<Request> {
    let Envelope { id, request, with } = serde_json::from_slice(line).ok()?;
    fn read<T: serde::de::DeserializeOwned>(with: serde_json::Value) -> Option<T> {
        serde_json::from_value(with).ok()
    }
    let what = match request.as_str() {
        "hello" => What::Hello(read(with)?),
        "admit" => What::Admit(read(with)?),
        "start" => What::Start(read(with)?),
        "expose" => What::Expose(read(with)?),
        "seal" => What::Seal(read(with)?),
        "reserve" => What::Reserve(read(with)?),
        "snapshot" => What::Snapshot(read(with)?),
        "destroy" => What::Destroy(read(with)?),
        "drop" => What::Drop(read(with)?),
        _ => return None,
    };
    Some(Request { id, what })
}

/// The line of an answer.
pub fn answer<T: Serialize>(id: u64, result: &Result<T, Fault>) -> Vec<u8> {
    let value = match result {
        Ok(ok) => serde_json::json!({ "id": id, "ok": ok }),
        Err(fault) => serde_json::json!({
            "id": id,
            "error": {
                "code": fault.code.text(),
                "message": fault.message.chars().take(MESSAGE_CHARS_MAX).collect::<String>(),
            },
        }),
    };
    line(&value)
}

/// The line that says that nothing of a machine is left.
pub fn exited(vm: &str, status: &str) -> Vec<u8> {
    line(&serde_json::json!({ "event": "exited", "vm": vm, "status": status }))
}

fn line(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn start(changes: &[(&str, serde_json::Value)]) -> Option<Request> {
        let mut with = serde_json::json!({
            "vm": "vm-1", "memory_bytes": 1, "vcpus": 1, "cpu_quota_us": null, "snapshot": null, "binding": null,
            "files": { "kernel": SHA, "initramfs": SHA, "rootfs": null }, "file_bytes_max": 1,
        });
        for (name, value) in changes {
            with[*name] = value.clone();
        }
        parse(
            serde_json::json!({ "id": 7, "request": "start", "with": with })
                .to_string()
                .as_bytes(),
        )
    }

    #[test]
    fn requests_are_read_to_the_letter() {
        assert!(matches!(
            start(&[]),
            Some(Request {
                id: 7,
                what: What::Start(_)
            })
        ));
        assert!(start(&[("vm", "../x".into())]).is_none());
        assert!(start(&[("vm", "".into())]).is_none());
        assert!(start(&[("vm", "-x".into())]).is_none());
        assert!(start(&[("vm", "X".into())]).is_none());
        assert!(start(&[("vm", "a".repeat(49).into())]).is_none());
        assert!(start(&[("snapshot", "a/b".into())]).is_none());
        assert!(start(&[("memory_bytes", (-1).into())]).is_none());
        assert!(start(&[("memory_bytes", 1.5.into())]).is_none());
        assert!(start(&[("pci", true.into())]).is_none());
        assert!(
            start(&[(
                "files",
                serde_json::json!({ "kernel": SHA, "initramfs": "x", "rootfs": null })
            )])
            .is_none()
        );
    }

    #[test]
    fn anything_else_is_no_request() {
        let lines: [&[u8]; 9] = [
            b"",
            b"{}",
            b"[]",
            b"\xff\xfe",
            b"{\"id\":1}",
            b"{\"id\":1,\"request\":\"exec\",\"with\":{}}",
            b"{\"id\":1,\"request\":\"hello\",\"with\":{\"version\":1},\"more\":1}",
            b"{\"id\":-1,\"request\":\"hello\",\"with\":{\"version\":1}}",
            b"{\"id\":1,\"id\":2,\"request\":\"hello\",\"with\":{\"version\":1}}",
        ];
        for line in lines {
            assert!(parse(line).is_none(), "{}", String::from_utf8_lossy(line));
        }
        assert!(parse("[".repeat(60_000).as_bytes()).is_none());
        assert!(parse(b"{\"id\":1,\"request\":\"hello\",\"with\":{\"version\":1}}").is_some());
    }

    #[test]
    fn an_answer_is_one_bounded_line() {
        let fault: Result<(), Fault> =
            Err(Fault::new(crate::fault::Code::Io, "x\n".repeat(100_000)));
        let bytes = answer(1, &fault);
        assert!(bytes.len() < LINE_BYTES_MAX);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
