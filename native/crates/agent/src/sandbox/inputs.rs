//! Writes the input files of an execution, before any process of the tenant exists.
// UNTRUSTED: the worker, and through it the tenant: frames may hold anything.
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use ruzstd::decoding::StreamingDecoder;

use super::record::{Blame, Fault, Step};
use crate::path;
use crate::request::Input;

const PIPE_BUFFER_BYTES: usize = 64 * 1024;
const COPY_BUFFER_BYTES: usize = 128 * 1024;

/// Never through a link, never out of the sandbox's own file system.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const EPOCH: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    },
    last_modification: Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    },
};

/// Reads the frames of all inputs from `pipe`, one after the other, and writes their files.
pub fn write_all(inputs: &[Input], pipe: OwnedFd) -> Result<(), Fault> {
    let root = open_root().map_err(Fault::at(Step::Input))?;
    let mut pipe = BufReader::with_capacity(PIPE_BUFFER_BYTES, File::from(pipe));
    let mut folders = HashSet::new();
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    for input in inputs {
        make_missing_folders(&root, &input.path, &mut folders).map_err(Fault::at(Step::Input))?;
        let mode = Mode::from_raw_mode(if input.executable { 0o755 } else { 0o644 });
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&root, input.path.as_slice(), flags, mode, RESOLVE)
            .map_err(Fault::at(Step::Input))?;
        let mut file = File::from(file);
        if input.size > 0 {
            write_frame(input, &mut pipe, &mut file, &mut buffer)?;
        }
        rustix::fs::futimens(file.as_fd(), &EPOCH).map_err(Fault::at(Step::Input))?;
    }
    Ok(())
}

/// Makes the folders above a path that is relative to the root.
pub fn make_folders(relative: &[u8]) -> io::Result<()> {
    make_missing_folders(&open_root()?, relative, &mut HashSet::new())
}

fn open_root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn make_missing_folders<'path>(
    root: &OwnedFd,
    relative: &'path [u8],
    made: &mut HashSet<&'path [u8]>,
) -> io::Result<()> {
    for folder in path::parents(relative) {
        if !made.insert(folder) {
            continue;
        }
        // No tenant's process and no link below /hpcc or /tmp exists yet; the open proves that it is a folder beneath the root.
        match rustix::fs::mkdirat(root, folder, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        drop(rustix::fs::openat2(
            root,
            folder,
            flags,
            Mode::empty(),
            RESOLVE,
        )?);
    }
    Ok(())
}

const BAD_FRAME: Fault = Fault {
    step: Step::Input,
    blame: Blame::Request,
    errno: 0,
};

/// Decodes exactly one frame of exactly the declared sizes.
fn write_frame(
    input: &Input,
    pipe: &mut impl Read,
    file: &mut impl Write,
    buffer: &mut [u8],
) -> Result<(), Fault> {
    let mut frame = pipe.take(input.frame_size);
    let mut decoder = StreamingDecoder::new(&mut frame).map_err(|_| BAD_FRAME)?;
    let mut written: u64 = 0;
    loop {
        let count = decoder.read(buffer).map_err(|_| BAD_FRAME)?;
        if count == 0 {
            break;
        }
        written += count as u64;
        if written > input.size {
            return Err(BAD_FRAME);
        }
        file.write_all(&buffer[..count])
            .map_err(Fault::at(Step::Input))?;
    }
    let stored = decoder.decoder.get_checksum_from_data();
    let intact = stored.is_none() || stored == decoder.decoder.get_calculated_checksum();
    drop(decoder);
    if intact && written == input.size && frame.limit() == 0 {
        Ok(())
    } else {
        Err(BAD_FRAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(content: &[u8], frame: &[u8], size: u64) -> Result<Vec<u8>, Fault> {
        let input = Input {
            path: Vec::new(),
            executable: false,
            size,
            frame_size: frame.len() as u64,
        };
        let mut out = Vec::new();
        write_frame(&input, &mut &*frame, &mut out, &mut [0; 1000])?;
        assert_eq!(out, content);
        Ok(out)
    }

    fn content() -> Vec<u8> {
        (0..300_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect()
    }

    #[test]
    fn frames_of_the_reference_encoder_decode() {
        for level in [1, 3, 19] {
            let content = content();
            let frame = zstd::bulk::compress(&content, level).unwrap();
            decode(&content, &frame, content.len() as u64).unwrap();
        }
    }

    #[test]
    fn checksummed_frames_decode_and_damaged_ones_do_not() {
        let content = content();
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&content).unwrap();
        let mut frame = encoder.finish().unwrap();
        decode(&content, &frame, content.len() as u64).unwrap();
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(
            decode(&content, &frame, content.len() as u64),
            Err(BAD_FRAME)
        );
    }

    #[test]
    fn sizes_must_be_exact() {
        let content = content();
        let size = content.len() as u64;
        let frame = zstd::bulk::compress(&content, 3).unwrap();
        let longer = [frame.as_slice(), b"x"].concat();
        let twice = [frame.as_slice(), &frame].concat();
        for (frame, size) in [
            (&frame[..], size - 1),
            (&frame, size + 1),
            (&frame[..frame.len() - 1], size),
            (&longer, size),
            (&twice, size),
            (&twice, 2 * size),
            (b"\x28\xb5\x2f\xfd", 1),
            (b"rubbish", 7),
            (b"", 1),
        ] {
            assert_eq!(decode(&content, frame, size), Err(BAD_FRAME));
        }
    }

    #[test]
    fn any_damaged_byte_is_an_error_or_harmless_but_no_panic() {
        let content = b"int main(void) { return 0; }\n".repeat(20);
        let frame = zstd::bulk::compress(&content, 3).unwrap();
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[at] ^= 1 << bit;
                let input = Input {
                    path: Vec::new(),
                    executable: false,
                    size: content.len() as u64,
                    frame_size: damaged.len() as u64,
                };
                let mut out = Vec::new();
                let _ = write_frame(&input, &mut &*damaged, &mut out, &mut [0; 1000]);
                assert!(out.len() <= content.len());
            }
        }
    }
}
