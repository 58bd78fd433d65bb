//! Hostile bytes on the connection: whatever comes, no session process dies of it, and the next connection is served. A case is
//! made from a number, which a failure names; `HPCC_AGENT_FUZZ=FIRST-LAST` runs other cases.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::{Harness, Job};

/// Cases of a normal run, some seconds.
const CASES: std::ops::Range<u64> = 0..400;
/// How long the agent may be silent before a case goes on.
const QUIET: Duration = Duration::from_millis(4);
/// What a session process may hold of an input that it has not understood.
const MEMORY_BYTES_MAX: u64 = 96 << 20;
const FRAME_HEADER: usize = 9;

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Where the frames of an HTTP/2 client begin, after its preface.
fn frames(stream: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = support::PREFACE.len();
    let mut found = Vec::new();
    while let Some(header) = stream.get(at..at + FRAME_HEADER) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let end = (at + FRAME_HEADER + length).min(stream.len());
        found.push(at..end);
        at = end;
    }
    found
}

/// A frame with any header.
fn frame(numbers: &mut Numbers, kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = match numbers.below(4) {
        0 => numbers.next() as u32 & 0xff_ffff,
        _ => payload.len() as u32,
    };
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, numbers.next() as u8]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A gRPC message whose prefix or content lies.
fn grpc_message(numbers: &mut Numbers) -> Vec<u8> {
    let content = match numbers.below(5) {
        // Nested length-delimited fields.
        0 => (0..numbers.below(2000))
            .flat_map(|_| [0x12, 0x7f])
            .collect(),
        // Varints that do not end.
        1 => vec![0xff; numbers.below(100)],
        // An Execute that promises much.
        2 => [
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x07][..],
            &numbers.bytes(50),
        ]
        .concat(),
        // Groups, reserved wire types, field 0.
        3 => (0..numbers.below(64))
            .map(|_| numbers.next() as u8 & 0x0f)
            .collect(),
        _ => {
            let count = numbers.below(300);
            numbers.bytes(count)
        }
    };
    let length = match numbers.below(3) {
        0 => numbers.next() as u32,
        1 => u32::MAX,
        _ => content.len() as u32,
    };
    [
        &[numbers.below(3) as u8][..],
        &length.to_be_bytes(),
        &content,
    ]
    .concat()
}

/// The bytes of a case. `good` is what a well-behaved worker sent in a whole session.
fn case(number: u64, good: &[u8]) -> Vec<u8> {
    let numbers = &mut Numbers(number.wrapping_mul(0xa076_1d64_78bd_642f));
    let mut bytes = good.to_vec();
    let parts = frames(good);
    let part = parts[numbers.below(parts.len())].clone();
    match numbers.below(9) {
        0 => {
            let count = numbers.below(4096);
            return numbers.bytes(count);
        }
        1 => {
            let count = numbers.below(4096);
            return [support::PREFACE, &numbers.bytes(count)].concat();
        }
        2 => bytes.truncate(numbers.below(good.len())),
        3 => {
            for _ in 0..=numbers.below(8) {
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
            }
        }
        4 => {
            // The header of one frame.
            let at = part.start + numbers.below(FRAME_HEADER);
            bytes[at] = numbers.next() as u8;
        }
        5 => {
            // A frame again, elsewhere.
            let to = parts[numbers.below(parts.len())].start;
            let again = good[part].to_vec();
            bytes.splice(to..to, again);
        }
        6 => drop(bytes.drain(part)),
        7 => {
            // A frame that no worker sends.
            let payload = {
                let count = numbers.below(64);
                numbers.bytes(count)
            };
            let kind = numbers.below(12) as u8;
            let stream = [0, 1, 3, 2, u32::MAX][numbers.below(5)];
            let odd = frame(numbers, kind, stream, &payload);
            for _ in 0..=numbers.below(200) {
                bytes.splice(part.start..part.start, odd.iter().copied());
            }
        }
        _ => {
            // Whole frames of data with hostile messages, once the stream is open.
            let message = grpc_message(numbers);
            let mut data = (message.len() as u32).to_be_bytes()[1..].to_vec();
            data.extend([0, 0, 0, 0, 0, 1]);
            data.extend(message);
            let at = parts
                .iter()
                .map(|part| part.start)
                .find(|&at| good[at + 3] == 0);
            let at = if numbers.below(2) == 0 {
                at.unwrap()
            } else {
                good.len()
            };
            bytes.truncate(at);
            for _ in 0..=numbers.below(3) {
                bytes.extend(&data);
            }
        }
    }
    bytes
}

/// Dials until a session process has taken the connection: it speaks first. One that is refused is closed.
fn connect(harness: &Harness) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = harness.dial();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        if let Ok(1..) = stream.read(&mut [0; FRAME_HEADER]) {
            return stream;
        }
        assert!(Instant::now() < deadline, "no connection is let in");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends the bytes as far as they are taken, and hears what is said until it is quiet.
fn send(stream: &mut UnixStream, bytes: &[u8]) {
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let _ = stream.write_all(bytes);
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let mut heard = [0; 64 * 1024];
    loop {
        match stream.read(&mut heard) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| {
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    })
}

fn cases() -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("HPCC_AGENT_FUZZ") else {
        return CASES;
    };
    let (first, last) = wanted.split_once('-').expect("HPCC_AGENT_FUZZ=FIRST-LAST");
    first.parse().unwrap()..last.parse::<u64>().unwrap() + 1
}

#[tokio::test(flavor = "current_thread")]
async fn hostile_bytes_fell_no_agent() {
    let harness = Harness::start();
    let job = || {
        Job::probe(&["grow", "/hpcc/out/x", "100000"])
            .input("/hpcc/project/a.c", &[b'x'; 5000])
            .link("/home/ann/include", "../../hpcc/project")
            .folder("/home/ann/build")
            .output("/hpcc/out/x")
    };
    let good = harness.record(job()).await;
    assert!(frames(&good).len() > 8, "a session is more than that");
    for number in cases() {
        let mut stream = connect(&harness);
        let bytes = case(number, &good);
        send(&mut stream, &bytes);
        if let Some(pid) = harness.session_pid() {
            let peak = peak_memory(pid);
            assert!(peak < MEMORY_BYTES_MAX, "case {number}: {peak} bytes");
        }
        drop(stream);
        let told = harness.console();
        assert!(told.is_empty(), "case {number}: {told:?}");
    }
    let mut session = harness.session().await;
    session.run(job()).await.ok();
    let report = session.ready.last_scrub.unwrap();
    assert_eq!(
        (report.processes_left, report.mounts_left, report.ipc_left),
        (0, 0, 0)
    );
    assert!(harness.console().is_empty(), "{:?}", harness.console());
}
