//! What the first process of a sandbox tells the agent: records of fixed size on a pipe that no program inherits.
use std::io;

/// Size of a record on the pipe.
pub const RECORD_BYTES: usize = 32;

/// Where the making of a sandbox can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    Descriptors = 0,
    Process,
    Root,
    Toolchain,
    Devices,
    Proc,
    Pivot,
    Names,
    Folders,
    Input,
    Link,
    WorkingFolder,
    Limits,
    Privileges,
    Filter,
    Fork,
    Exec,
}

const STEPS: [(Step, &str); 17] = [
    (Step::Descriptors, "placing descriptors"),
    (Step::Process, "preparing the first process"),
    (Step::Root, "mounting the root"),
    (Step::Toolchain, "mounting the toolchain"),
    (Step::Devices, "mounting the devices"),
    (Step::Proc, "mounting proc"),
    (Step::Pivot, "entering the root"),
    (Step::Names, "setting the host name"),
    (Step::Folders, "making folders"),
    (Step::Input, "writing an input"),
    (Step::Link, "making a link"),
    (Step::WorkingFolder, "entering the working folder"),
    (Step::Limits, "setting limits"),
    (Step::Privileges, "giving up privileges"),
    (Step::Filter, "setting the system call filter"),
    (Step::Fork, "starting a process"),
    (Step::Exec, "executing the program"),
];

impl Step {
    /// The step in words.
    pub fn words(self) -> &'static str {
        STEPS[self as usize].1
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Blame {
    /// The system's.
    Sandbox = 0,
    /// The request's.
    Request,
    /// There is no such program.
    Program,
    /// Memory ran out.
    Memory,
}

const BLAMES: [Blame; 4] = [
    Blame::Sandbox,
    Blame::Request,
    Blame::Program,
    Blame::Memory,
];

/// Why a sandbox could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub step: Step,
    pub blame: Blame,
    /// The kernel's error number, or 0.
    pub errno: i32,
}

impl Fault {
    /// The fault of a failed call at `step`.
    pub fn at<E: Into<io::Error>>(step: Step) -> impl Fn(E) -> Fault {
        move |error| {
            let errno = error.into().raw_os_error().unwrap_or(0);
            let blame = if matches!(errno, libc::ENOSPC | libc::ENOMEM) {
                Blame::Memory
            } else {
                Blame::Sandbox
            };
            Fault { step, blame, errno }
        }
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// The program has been started.
    Started,
    /// There will be no program, or no longer.
    Failed(Fault),
    /// The program has ended, with the status that wait gives.
    Ended {
        status: i32,
        wall_us: u64,
        peak_bytes: u64,
    },
}

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let (kind, a, b, c, d, e) = match *self {
            Record::Started => (1u32, 0u32, 0u32, 0i32, 0u64, 0u64),
            Record::Failed(fault) => (2, fault.step as u32, fault.blame as u32, fault.errno, 0, 0),
            Record::Ended {
                status,
                wall_us,
                peak_bytes,
            } => (3, 0, 0, status, wall_us, peak_bytes),
        };
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..12].copy_from_slice(&b.to_le_bytes());
        bytes[12..16].copy_from_slice(&c.to_le_bytes());
        bytes[16..24].copy_from_slice(&d.to_le_bytes());
        bytes[24..32].copy_from_slice(&e.to_le_bytes());
        bytes
    }

    /// Reads a record; None when the bytes are none.
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Record> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        match word(0)? {
            1 => Some(Record::Started),
            2 => Some(Record::Failed(Fault {
                step: STEPS.get(word(4)? as usize)?.0,
                blame: *BLAMES.get(word(8)? as usize)?,
                errno: word(12)? as i32,
            })),
            3 => Some(Record::Ended {
                status: word(12)? as i32,
                wall_us: long(16)?,
                peak_bytes: long(24)?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_pipe() {
        let mut records = vec![
            Record::Started,
            Record::Ended {
                status: -1,
                wall_us: u64::MAX,
                peak_bytes: 1,
            },
        ];
        for (step, _) in STEPS {
            records.extend(BLAMES.map(|blame| {
                Record::Failed(Fault {
                    step,
                    blame,
                    errno: 13,
                })
            }));
        }
        for record in records {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn steps_stand_at_their_number() {
        for (at, (step, _)) in STEPS.iter().enumerate() {
            assert_eq!(*step as usize, at);
        }
    }

    #[test]
    fn rubbish_is_no_record() {
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), None);
        assert_eq!(Record::decode(&[0xff; RECORD_BYTES]), None);
        let mut bytes = Record::Started.encode();
        (bytes[0], bytes[4]) = (2, 99);
        assert_eq!(Record::decode(&bytes), None);
    }
}
