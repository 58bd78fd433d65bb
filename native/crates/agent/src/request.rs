//! From an Execute message to a job whose every field has been checked.
// UNTRUSTED: the worker, and through it the tenant.
use std::ffi::CString;

use tonic::codegen::Bytes;

use crate::limits;
use crate::path::{self, PathError};
use crate::proto;
use crate::tree::{self, Place, Role};

/// Folders that every execution has, relative to the sandbox's root.
const FOLDERS: [&[u8]; 4] = [b"hpcc/project", b"hpcc/out", b"hpcc/tmp", b"tmp"];

/// A request that breaks the contract, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

/// A checked execution.
#[derive(Debug)]
pub struct Job {
    pub id: u64,
    pub argv: Vec<CString>,
    pub environment: Vec<CString>,
    /// Relative to the sandbox's root, as all paths of a job.
    pub cwd: Vec<u8>,
    pub inputs: Vec<Input>,
    pub links: Vec<Link>,
    pub folders: Vec<Vec<u8>>,
    pub outputs: Vec<Vec<u8>>,
    pub limits: JobLimits,
    /// 0 for a pipe.
    pub terminal_columns: u16,
}

/// A checked symbolic link.
#[derive(Debug)]
pub struct Link {
    pub path: Vec<u8>,
    /// As spelled.
    pub target: CString,
}

/// A checked input file.
#[derive(Debug)]
pub struct Input {
    pub path: Vec<u8>,
    pub executable: bool,
    pub size: u64,
    pub frame_size: u64,
}

/// Checked limits.
#[derive(Debug, Clone, Copy)]
pub struct JobLimits {
    pub wall_ms: u32,
    pub memory_bytes: u64,
    pub pids: u32,
    pub output_bytes: u64,
    pub stdio_bytes: u64,
}

impl Job {
    /// Bytes of all input frames.
    pub fn frame_bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.frame_size).sum()
    }

    /// Every path of the job, with what stands there.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let inputs = self.inputs.iter().map(|input| (&input.path, Role::File));
        let links = self.links.iter().map(|link| (&link.path, Role::Link));
        let folders = self.folders.iter().map(|folder| (folder, Role::Folder));
        let outputs = self.outputs.iter().map(|output| (output, Role::Output));
        inputs
            .chain(links)
            .chain(folders)
            .chain(outputs)
            .map(|(path, role)| Place { path, role })
            .chain(self.needed().map(|path| Place {
                path,
                role: Role::Needed,
            }))
    }

    /// Folders that must be there.
    pub fn needed(&self) -> impl Iterator<Item = &[u8]> {
        FOLDERS.into_iter().chain([self.cwd.as_slice()])
    }

    /// True when the top-level name is the job's: the toolchain's entry of that name is not seen.
    pub fn has_top_name(&self, name: &[u8]) -> bool {
        self.places()
            .any(|place| path::top_name(place.path) == name)
    }
}

/// Checks a request.
pub fn check(request: proto::Execute) -> Result<Job, Invalid> {
    let limits = check_limits(request.limits)?;
    let (argv, environment) = check_strings(&request.argv, &request.environment)?;
    let names = request.inputs.len() + request.links.len() + request.folders.len();
    if names > limits::INPUTS_MAX {
        return invalid("too many inputs, links and folders");
    }
    if request.outputs.len() > limits::OUTPUTS_MAX {
        return invalid("too many outputs");
    }
    if request.terminal_columns > limits::TERMINAL_COLUMNS_MAX {
        return invalid("terminal_columns is too large");
    }
    let job = Job {
        id: request.execution_id,
        argv,
        environment,
        cwd: check_path("cwd", path::check_folder(&request.cwd))?,
        inputs: check_inputs(&request.inputs, limits.memory_bytes)?,
        links: request
            .links
            .iter()
            .map(check_link)
            .collect::<Result<_, _>>()?,
        folders: check_paths("folder", &request.folders, path::check_folder)?,
        outputs: check_paths("output", &request.outputs, path::check_file)?,
        limits,
        terminal_columns: request.terminal_columns as u16,
    };
    tree::check(job.places().collect()).or_else(|clash| invalid(clash.words()))?;
    Ok(job)
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid(message.into()))
}

fn check_path(what: &str, checked: Result<&[u8], PathError>) -> Result<Vec<u8>, Invalid> {
    checked.map(<[u8]>::to_vec).or_else(|error| {
        invalid(match error {
            PathError::Length => format!("{what}: empty or too long"),
            PathError::Relative => format!("{what}: not absolute"),
            PathError::NotNormal => format!("{what}: not normalised"),
            PathError::Outside => format!("{what}: not where a job's files may be"),
        })
    })
}

fn check_paths(
    what: &str,
    paths: &[Bytes],
    check: impl Fn(&[u8]) -> Result<&[u8], PathError>,
) -> Result<Vec<Vec<u8>>, Invalid> {
    paths
        .iter()
        .map(|path| check_path(what, check(path)))
        .collect()
}

fn check_link(link: &proto::InputLink) -> Result<Link, Invalid> {
    let path = check_path("link", path::check_file(&link.path))?;
    if link.target.is_empty() || link.target.len() > limits::PATH_BYTES_MAX {
        return invalid("a link's target is empty or too long");
    }
    let target = CString::new(link.target.as_ref());
    match target {
        Ok(target) => Ok(Link { path, target }),
        Err(_) => invalid("a link's target holds a NUL"),
    }
}

fn check_limits(limits: Option<proto::Limits>) -> Result<JobLimits, Invalid> {
    let Some(limits) = limits else {
        return invalid("no limits");
    };
    let within = (1..=limits::WALL_MS_MAX).contains(&limits.wall_ms)
        && (limits::MEMORY_BYTES_MIN..=limits::MEMORY_BYTES_MAX).contains(&limits.memory_bytes)
        && (1..=limits::PIDS_MAX).contains(&limits.pids)
        && (1..=limits::MEMORY_BYTES_MAX).contains(&limits.output_bytes)
        && (1..=limits::STDIO_BYTES_MAX).contains(&limits.stdio_bytes);
    if !within {
        return invalid("a limit is zero or out of range");
    }
    Ok(JobLimits {
        wall_ms: limits.wall_ms,
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        output_bytes: limits.output_bytes,
        stdio_bytes: limits.stdio_bytes,
    })
}

fn check_strings(
    argv: &[Bytes],
    environment: &[Bytes],
) -> Result<(Vec<CString>, Vec<CString>), Invalid> {
    let total: usize = argv
        .iter()
        .chain(environment)
        .map(|string| string.len() + 1 + size_of::<usize>())
        .sum();
    if total > limits::EXEC_STRINGS_BYTES_MAX {
        return invalid("arguments and environment are too long");
    }
    let Some(program) = argv.first() else {
        return invalid("no arguments");
    };
    check_path(
        "program",
        path::check_absolute(program).map(|()| &program[..]),
    )?;
    if environment.iter().any(|entry| {
        entry
            .iter()
            .position(|&byte| byte == b'=')
            .is_none_or(|at| at == 0)
    }) {
        return invalid("an environment entry is not NAME=value");
    }
    Ok((c_strings(argv)?, c_strings(environment)?))
}

fn c_strings(strings: &[Bytes]) -> Result<Vec<CString>, Invalid> {
    let checked = strings.iter().map(|string| {
        if string.len() > limits::EXEC_STRING_BYTES_MAX {
            return invalid("an argument or environment entry is too long");
        }
        CString::new(string.as_ref())
            .or_else(|_| invalid("an argument or environment entry holds a NUL"))
    });
    checked.collect()
}

fn check_inputs(inputs: &[proto::InputFile], memory_bytes: u64) -> Result<Vec<Input>, Invalid> {
    let mut checked = Vec::with_capacity(inputs.len());
    let mut total: u64 = 0;
    for input in inputs {
        let path = check_path("input", path::check_file(&input.path))?;
        let executable = match input.mode {
            0o644 => false,
            0o755 => true,
            _ => return invalid("an input mode is neither 0644 nor 0755"),
        };
        total = total.saturating_add(input.size);
        // More than any encoder needs for content that it cannot compress.
        if input.frame_size
            > input
                .size
                .saturating_add(input.size / 64)
                .saturating_add(1024)
        {
            return invalid("an input frame is larger than its content allows");
        }
        if (input.size == 0) != (input.frame_size == 0) {
            return invalid("an empty input has an empty frame, and no other");
        }
        checked.push(Input {
            path,
            executable,
            size: input.size,
            frame_size: input.frame_size,
        });
    }
    if total > limits::INPUT_BYTES_MAX || total > memory_bytes {
        return invalid("the inputs are too large");
    }
    Ok(checked)
}

/// Where the next input byte belongs; refuses chunks out of order.
#[derive(Debug)]
pub struct InputCursor {
    frame_sizes: Vec<u64>,
    index: usize,
    taken: u64,
}

impl InputCursor {
    pub fn new(job: &Job) -> Self {
        let mut cursor = InputCursor {
            frame_sizes: job.inputs.iter().map(|input| input.frame_size).collect(),
            index: 0,
            taken: 0,
        };
        cursor.skip_complete();
        cursor
    }

    /// True when no byte is missing.
    pub fn complete(&self) -> bool {
        self.index == self.frame_sizes.len()
    }

    /// Takes a chunk into account.
    pub fn accept(&mut self, index: u32, size: usize) -> Result<(), Invalid> {
        if size == 0 || size > limits::CHUNK_BYTES_MAX {
            return invalid("an input chunk is empty or too large");
        }
        match self.frame_sizes.get(self.index) {
            Some(frame) if index as usize == self.index && size as u64 <= frame - self.taken => {
                self.taken += size as u64;
                self.skip_complete();
                Ok(())
            }
            _ => invalid("an input chunk is out of order or passes its frame's end"),
        }
    }

    fn skip_complete(&mut self) {
        while self.frame_sizes.get(self.index) == Some(&self.taken) {
            self.index += 1;
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> proto::Execute {
        proto::Execute {
            execution_id: 7,
            argv: vec![
                Bytes::from_static(b"/usr/bin/gcc"),
                Bytes::from_static(b"\xff"),
            ],
            environment: vec![Bytes::from_static(b"A=")],
            cwd: Bytes::from_static(b"/hpcc/project"),
            inputs: vec![
                input(b"/hpcc/project/a.c", 10),
                input(b"/hpcc/project/empty.h", 0),
            ],
            outputs: vec![
                Bytes::from_static(b"/hpcc/out/a.o"),
                Bytes::from_static(b"/tmp/x"),
            ],
            limits: Some(proto::Limits {
                wall_ms: 1,
                memory_bytes: 1 << 30,
                pids: 1,
                output_bytes: 1,
                stdio_bytes: 1,
            }),
            terminal_columns: 80,
            links: vec![link(b"/hpcc/project/include", b"../../../opt/x")],
            folders: vec![Bytes::from_static(b"/hpcc/project/empty")],
        }
    }

    fn link(path: &'static [u8], target: &'static [u8]) -> proto::InputLink {
        proto::InputLink {
            path: Bytes::from_static(path),
            target: Bytes::from_static(target),
        }
    }

    fn input(path: &'static [u8], size: u64) -> proto::InputFile {
        proto::InputFile {
            path: Bytes::from_static(path),
            mode: 0o644,
            size,
            frame_size: size,
        }
    }

    #[test]
    fn a_good_request_passes() {
        let job = check(request()).unwrap();
        assert_eq!(job.argv[1].as_bytes(), b"\xff");
        assert_eq!(job.inputs[0].path, b"hpcc/project/a.c");
        assert_eq!(job.outputs, [b"hpcc/out/a.o".to_vec(), b"tmp/x".to_vec()]);
        assert_eq!(job.frame_bytes(), 10);
        assert_eq!(job.cwd, b"hpcc/project");
        assert_eq!(job.links[0].target.as_bytes(), b"../../../opt/x");
        assert_eq!(job.folders, [b"hpcc/project/empty".to_vec()]);
        assert!(job.has_top_name(b"hpcc") && job.has_top_name(b"tmp"));
        assert!(!job.has_top_name(b"opt") && !job.has_top_name(b"hp"));
    }

    #[test]
    fn hostile_requests_are_refused() {
        type Edit = fn(&mut proto::Execute);
        let rows: [(&str, Edit); 39] = [
            ("no limits", |r| r.limits = None),
            ("zero wall", |r| r.limits.as_mut().unwrap().wall_ms = 0),
            ("zero memory", |r| {
                r.limits.as_mut().unwrap().memory_bytes = 0
            }),
            ("zero pids", |r| r.limits.as_mut().unwrap().pids = 0),
            ("zero output", |r| {
                r.limits.as_mut().unwrap().output_bytes = 0
            }),
            ("zero stdio", |r| r.limits.as_mut().unwrap().stdio_bytes = 0),
            ("huge stdio", |r| {
                r.limits.as_mut().unwrap().stdio_bytes = u64::MAX
            }),
            ("huge memory", |r| {
                r.limits.as_mut().unwrap().memory_bytes = u64::MAX
            }),
            ("no argv", |r| r.argv.clear()),
            ("relative program", |r| {
                r.argv[0] = Bytes::from_static(b"gcc")
            }),
            ("program with dots", |r| {
                r.argv[0] = Bytes::from_static(b"/usr/../bin/gcc")
            }),
            ("NUL in argv", |r| r.argv[1] = Bytes::from_static(b"a\0b")),
            ("long argument", |r| {
                r.argv[1] = Bytes::from(vec![b'a'; 200_000])
            }),
            ("long argv", |r| {
                r.argv
                    .extend(std::iter::repeat_n(Bytes::from(vec![b'a'; 100_000]), 25))
            }),
            ("environment without =", |r| {
                r.environment[0] = Bytes::from_static(b"A")
            }),
            ("environment without name", |r| {
                r.environment[0] = Bytes::from_static(b"=x")
            }),
            ("relative cwd", |r| r.cwd = Bytes::from_static(b"x")),
            ("input outside", |r| {
                r.inputs[0].path = Bytes::from_static(b"/usr/bin/gcc")
            }),
            ("input climbs", |r| {
                r.inputs[0].path = Bytes::from_static(b"/hpcc/../etc/passwd")
            }),
            ("input twice", |r| {
                r.inputs[1].path = r.inputs[0].path.clone()
            }),
            ("input below an input", |r| {
                r.inputs[1].path = Bytes::from_static(b"/hpcc/project/a.c/b")
            }),
            ("input mode", |r| r.inputs[0].mode = 0o4755),
            ("input sizes overflow", |r| {
                r.inputs
                    .iter_mut()
                    .for_each(|i| (i.size, i.frame_size) = (u64::MAX, 1))
            }),
            ("frame of nothing", |r| r.inputs[1].frame_size = 5),
            ("output outside", |r| {
                r.outputs[0] = Bytes::from_static(b"/etc/shadow")
            }),
            ("too many outputs", |r| {
                r.outputs = vec![Bytes::from_static(b"/tmp/x"); 257]
            }),
            ("too many names", |r| {
                r.folders = vec![Bytes::from_static(b"/tmp/x"); limits::INPUTS_MAX - 2]
            }),
            ("cwd of the toolchain", |r| {
                r.cwd = Bytes::from_static(b"/usr/lib")
            }),
            ("cwd is the root", |r| r.cwd = Bytes::from_static(b"/")),
            ("cwd behind a link", |r| {
                r.cwd = Bytes::from_static(b"/hpcc/project/include/x")
            }),
            ("link without target", |r| r.links[0].target.clear()),
            ("link with a long target", |r| {
                r.links[0].target = Bytes::from(vec![b'a'; 4096])
            }),
            ("link with NUL", |r| {
                r.links[0].target = Bytes::from_static(b"a\0b")
            }),
            ("a file where a folder must be", |r| {
                r.inputs[1].path = Bytes::from_static(b"/hpcc/out")
            }),
            ("link outside", |r| {
                r.links[0].path = Bytes::from_static(b"/etc/x")
            }),
            ("link at the top", |r| {
                r.links[0].path = Bytes::from_static(b"/x")
            }),
            ("folder outside", |r| {
                r.folders[0] = Bytes::from_static(b"/run/x")
            }),
            ("input behind a link", |r| {
                r.inputs[0].path = Bytes::from_static(b"/hpcc/project/include/a.h")
            }),
            ("output behind a link", |r| {
                r.outputs[0] = Bytes::from_static(b"/hpcc/project/include/a.o")
            }),
        ];
        for (name, edit) in rows {
            let mut hostile = request();
            edit(&mut hostile);
            assert!(check(hostile).is_err(), "{name}");
        }
    }

    #[test]
    fn chunks_come_in_order() {
        let mut bad = request();
        bad.inputs = vec![
            input(b"/hpcc/e", 0),
            input(b"/hpcc/a", 5),
            input(b"/hpcc/f", 0),
            input(b"/hpcc/b", 3),
        ];
        let job = check(bad).unwrap();
        let mut cursor = InputCursor::new(&job);
        assert!(cursor.accept(0, 1).is_err());
        assert!(cursor.accept(3, 1).is_err());
        assert!(cursor.accept(1, 0).is_err());
        assert!(cursor.accept(1, 6).is_err());
        assert!(cursor.accept(1, limits::CHUNK_BYTES_MAX + 1).is_err());
        cursor.accept(1, 2).unwrap();
        cursor.accept(1, 3).unwrap();
        assert!(cursor.accept(1, 1).is_err());
        assert!(!cursor.complete());
        cursor.accept(3, 3).unwrap();
        assert!(cursor.complete());
        assert!(cursor.accept(4, 1).is_err());
    }

    #[test]
    fn no_input_is_complete_at_once() {
        let mut none = request();
        none.inputs.clear();
        assert!(InputCursor::new(&check(none).unwrap()).complete());
    }
}
