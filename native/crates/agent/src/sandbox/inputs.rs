//! Lays out the tree of a job, its input files, folders and links, before any process of the tenant exists.
// UNTRUSTED: the worker, and through it the tenant: frames and targets of links may hold anything.
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use ruzstd::decoding::StreamingDecoder;

use super::record::{Blame, Fault, Step};
use crate::path;
use crate::request::{Input, Job, Link};

const PIPE_BUFFER_BYTES: usize = 64 * 1024;
const COPY_BUFFER_BYTES: usize = 128 * 1024;

/// Never through a link, never out of the sandbox's own file system.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const FOLDER_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Writes everything that the job's tree holds; `pipe` gives the frames of all inputs, one after the other. Links come last,
/// when every folder that is needed is there: nothing is ever written through one.
pub fn lay_out(job: &Job, pipe: OwnedFd) -> Result<(), Fault> {
    let mut folders = Folders::open().map_err(Fault::at(Step::Folders))?;
    write_inputs(&job.inputs, pipe, &mut folders)?;
    let outputs = job.outputs.iter().map(|output| path::split_name(output).0);
    let links = job.links.iter().map(|link| path::split_name(&link.path).0);
    let empty = job.folders.iter().map(Vec::as_slice);
    for folder in job.needed().chain(empty).chain(outputs).chain(links) {
        folders.make(folder).map_err(Fault::at(Step::Folders))?;
    }
    for link in &job.links {
        make_link(&folders.root, link).map_err(Fault::at(Step::Link))?;
    }
    Ok(())
}

fn write_inputs<'job>(
    inputs: &'job [Input],
    pipe: OwnedFd,
    folders: &mut Folders<'job>,
) -> Result<(), Fault> {
    let mut pipe = BufReader::with_capacity(PIPE_BUFFER_BYTES, File::from(pipe));
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    for (index, input) in inputs.iter().enumerate() {
        folders
            .make(path::split_name(&input.path).0)
            .map_err(Fault::at(Step::Input))?;
        let mode = Mode::from_raw_mode(if input.executable { 0o755 } else { 0o644 });
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&folders.root, input.path.as_slice(), flags, mode, RESOLVE)
            .map_err(Fault::at(Step::Input))?;
        let mut file = File::from(file);
        if input.size > 0 {
            write_frame(input, &mut pipe, &mut file, &mut buffer)?;
        }
        rustix::fs::futimens(file.as_fd(), &time_of(index)).map_err(Fault::at(Step::Input))?;
    }
    Ok(())
}

/// A time of its own for each input: GCC takes two files of equal size, time and content for one under `#pragma once`.
fn time_of(index: usize) -> Timestamps {
    let time = Timespec {
        tv_sec: index as i64 + 1,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Opens a folder of the job. Never through a link, whatever stands there.
pub fn open_folder(relative: &[u8]) -> io::Result<OwnedFd> {
    open_beneath(&open_root()?, relative)
}

fn open_beneath(root: &OwnedFd, relative: &[u8]) -> io::Result<OwnedFd> {
    let mode = Mode::empty();
    Ok(rustix::fs::openat2(
        root,
        relative,
        FOLDER_FLAGS,
        mode,
        RESOLVE,
    )?)
}

fn open_root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/", FOLDER_FLAGS, Mode::empty())?)
}

fn make_link(root: &OwnedFd, link: &Link) -> io::Result<()> {
    let (folder, name) = path::split_name(&link.path);
    let folder = open_beneath(root, folder)?;
    Ok(rustix::fs::symlinkat(link.target.as_c_str(), folder, name)?)
}

/// Makes folders, each once.
struct Folders<'job> {
    root: OwnedFd,
    made: HashSet<&'job [u8]>,
}

impl<'job> Folders<'job> {
    fn open() -> io::Result<Self> {
        Ok(Folders {
            root: open_root()?,
            made: HashSet::new(),
        })
    }

    /// Makes a folder and those above it.
    fn make(&mut self, relative: &'job [u8]) -> io::Result<()> {
        let outward = |folder: &&'job [u8]| Some(path::split_name(folder).0);
        let missing: Vec<&[u8]> = std::iter::successors(Some(relative), outward)
            .take_while(|folder| !folder.is_empty() && !self.made.contains(folder))
            .collect();
        for folder in missing.into_iter().rev() {
            // There is no link of the job yet, and none of the toolchain below a name that is the job's; the open proves that
            // it is a folder beneath the root.
            match rustix::fs::mkdirat(&self.root, folder, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            drop(open_beneath(&self.root, folder)?);
            self.made.insert(folder);
        }
        Ok(())
    }
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
