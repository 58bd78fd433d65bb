//! What the caller wants: a compile call or a sub-command. Also finds real compilers, past every launcher.

use crate::environment::{Environment, join};
use crate::sys;

/// Programs of the environment of a host compiler that hpcc ran, so that a wrapper that finds a launcher on PATH again
/// (ccache behind hpcc, say) ends in the compiler and not in a circle: `dev:ino` of each, comma between.
pub const WRAPPED_VARIABLE: &str = "HPCC_WRAPPED";

const OWN_NAME: &[u8] = b"hpcc";
const PATH_DEFAULT: &[u8] = b"/bin:/usr/bin";

/// Last parts of compilers' names; a target stands before them, a version behind.
const COMPILERS: [&str; 19] = [
    "gcc",
    "g++",
    "cc",
    "c++",
    "clang",
    "clang++",
    "clang-cl",
    "clang-cpp",
    "cpp",
    "c89",
    "c99",
    "gfortran",
    "nvcc",
    "icc",
    "icpc",
    "icx",
    "icpx",
    "emcc",
    "em++",
];

#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// argv with the compiler as the caller named it in front.
    Compile(Vec<Vec<u8>>),
    /// Arguments of a sub-command.
    Command(Vec<Vec<u8>>),
}

/// A file's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
}

impl FileId {
    pub fn of(path: &[u8]) -> Option<FileId> {
        let stat = sys::stat(path).ok()?;
        Some(FileId {
            dev: stat.dev,
            ino: stat.ino,
        })
    }
}

/// The launcher's own file; none when /proc is missing.
pub fn own_file() -> Option<FileId> {
    FileId::of(b"/proc/self/exe")
}

/// The command of `hpcc run COMMAND...`; none where there is none, or options are asked for.
pub fn command_to_run(arguments: &[Vec<u8>]) -> Option<&[Vec<u8>]> {
    let (first, rest) = arguments.split_first()?;
    let command = match rest.split_first() {
        Some((dashes, command)) if dashes == b"--" => command,
        Some((word, _)) if !word.starts_with(b"-") => rest,
        _ => return None,
    };
    (first == b"run" && !command.is_empty()).then_some(command)
}

/// Whether a name without folders is a compiler's: an optional target, one of the known names, an optional version.
pub fn is_compiler_name(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    let name = ["-posix", "-win32"]
        .iter()
        .find_map(|thread| name.strip_suffix(thread))
        .unwrap_or(name);
    let name = match name.rsplit_once('-') {
        Some((front, version))
            if version.starts_with(|c: char| c.is_ascii_digit())
                && version
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            front
        }
        _ => name,
    };
    COMPILERS.iter().any(|compiler| {
        name.strip_suffix(compiler)
            .is_some_and(|target| target.is_empty() || target.ends_with('-'))
    })
}

/// Reads argv. Being called through any link that is not named hpcc is a compile call. `keeps_paths`: a path that leads to the launcher
/// is a compiler's all the same.
pub fn parse(mut argv: Vec<Vec<u8>>, own: Option<FileId>, keeps_paths: bool) -> Invocation {
    let called = argv.first().map_or(OWN_NAME, |name| sys::base_name(name));
    if called != OWN_NAME {
        let name = called.to_vec();
        if let Some(first) = argv.first_mut()
            && !keeps_paths
        {
            *first = name;
        }
        return Invocation::Compile(argv);
    }
    // `hpcc hpcc gcc`, `hpcc /usr/lib/hpcc/gcc`: what leads to the launcher itself is not a compiler but its name.
    let mut rest = argv.split_off(argv.len().min(1));
    while rest.first().is_some_and(|first| {
        first == OWN_NAME || is_own_path(first, own) && sys::base_name(first) == OWN_NAME
    }) {
        rest.remove(0);
    }
    let Some(first) = rest.first_mut() else {
        return Invocation::Command(rest);
    };
    if is_own_path(first, own) {
        if !keeps_paths {
            *first = sys::base_name(first).to_vec();
        }
        return Invocation::Compile(rest);
    }
    if first.contains(&b'/') || is_compiler_name(first) {
        Invocation::Compile(rest)
    } else {
        Invocation::Command(rest)
    }
}

fn is_own_path(path: &[u8], own: Option<FileId>) -> bool {
    path.contains(&b'/') && own.is_some() && FileId::of(path) == own
}

/// A real compiler of the host.
#[derive(Debug, PartialEq, Eq)]
pub struct HostCompiler {
    pub path: Vec<u8>,
    pub id: FileId,
    /// A launcher stands before it on PATH: the compiler must be told its own path to find its parts.
    pub behind_launcher: bool,
}

/// Files that wrappers before us have run, from WRAPPED_VARIABLE.
pub fn wrapped_files(environment: &Environment) -> Vec<FileId> {
    let text = environment
        .get(WRAPPED_VARIABLE)
        .and_then(|value| std::str::from_utf8(value).ok())
        .unwrap_or("");
    let parse = |item: &str| {
        let (dev, ino) = item.split_once(':')?;
        Some(FileId {
            dev: dev.parse().ok()?,
            ino: ino.parse().ok()?,
        })
    };
    text.split(',').filter_map(parse).collect()
}

/// The value of WRAPPED_VARIABLE with one file more.
pub fn wrapped_value(mut files: Vec<FileId>, last: FileId) -> Vec<u8> {
    files.push(last);
    files
        .iter()
        .map(|file| format!("{}:{}", file.dev, file.ino))
        .collect::<Vec<_>>()
        .join(",")
        .into_bytes()
}

/// Why no compiler was found, as a shell tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    NotFound,
    NotExecutable,
}

/// Finds the real compiler of a name, on PATH if it has no folder, skipping the launcher, links to it and files that are wrapped already.
pub fn find_host_compiler(
    name: &[u8],
    environment: &Environment,
    own: Option<FileId>,
) -> Result<HostCompiler, Missing> {
    let wrapped = wrapped_files(environment);
    let is_skipped = |id: FileId| Some(id) == own || wrapped.contains(&id);
    if name.contains(&b'/') {
        let stat = sys::stat(name).map_err(|_| Missing::NotFound)?;
        let id = FileId {
            dev: stat.dev,
            ino: stat.ino,
        };
        if !is_skipped(id) {
            let executable = stat.is_regular() && sys::may_access(name, libc::X_OK);
            let found = HostCompiler {
                path: name.to_vec(),
                id,
                behind_launcher: false,
            };
            return if executable {
                Ok(found)
            } else {
                Err(Missing::NotExecutable)
            };
        }
    }
    let name = sys::base_name(name);
    let mut missing = Missing::NotFound;
    let mut behind_launcher = false;
    for folder in environment
        .get("PATH")
        .unwrap_or(PATH_DEFAULT)
        .split(|&byte| byte == b':')
    {
        let path = if folder.is_empty() {
            join(b".", name)
        } else {
            join(folder, name)
        };
        let Ok(stat) = sys::stat(&path) else { continue };
        let id = FileId {
            dev: stat.dev,
            ino: stat.ino,
        };
        if is_skipped(id) {
            behind_launcher = true;
        } else if stat.is_regular() && sys::may_access(&path, libc::X_OK) {
            return Ok(HostCompiler {
                path,
                id,
                behind_launcher,
            });
        } else if stat.is_regular() {
            missing = Missing::NotExecutable;
        }
    }
    Err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(items: &[&str]) -> Vec<Vec<u8>> {
        items.iter().map(|item| item.as_bytes().to_vec()).collect()
    }

    #[test]
    fn compilers_are_known_by_name() {
        for name in [
            "gcc",
            "g++",
            "cc",
            "c++",
            "clang",
            "clang++",
            "gcc-12",
            "clang++-14",
            "x86_64-linux-gnu-gcc",
            "x86_64-linux-gnu-g++-12",
            "gcc-4.8.5",
            "x86_64-w64-mingw32-gcc-posix",
            "musl-gcc",
            "clang-cl",
        ] {
            assert!(is_compiler_name(name.as_bytes()), "{name}");
        }
        for name in [
            "stats", "image", "ca", "worker", "daemon", "doctor", "gcc-ar", "xgcc", "-12", "",
            "gcc-", "12", "ccache", "gcc-12-x", "inspect",
        ] {
            assert!(!is_compiler_name(name.as_bytes()), "{name}");
        }
        assert!(!is_compiler_name(b"\xff-\xfe"));
    }

    #[test]
    fn argv_is_a_compile_or_a_command() {
        let compile = |items: &[&str]| Invocation::Compile(argv(items));
        let command = |items: &[&str]| Invocation::Command(argv(items));
        for (given, expected) in [
            (argv(&["hpcc", "gcc", "-c"]), compile(&["gcc", "-c"])),
            (
                argv(&["/opt/bin/hpcc", "hpcc", "hpcc", "gcc"]),
                compile(&["gcc"]),
            ),
            (argv(&["/usr/lib/hpcc/gcc", "-c"]), compile(&["gcc", "-c"])),
            (argv(&["weird-cc1", "-c"]), compile(&["weird-cc1", "-c"])),
            (
                argv(&["hpcc", "./tools/mycc", "-c"]),
                compile(&["./tools/mycc", "-c"]),
            ),
            (
                argv(&["hpcc", "stats", "--json"]),
                command(&["stats", "--json"]),
            ),
            (argv(&["hpcc", "hpcc", "stats"]), command(&["stats"])),
            (argv(&["hpcc", "--version"]), command(&["--version"])),
            (argv(&["hpcc"]), command(&[])),
            (argv(&["hpcc", "hpcc"]), command(&[])),
            (vec![], command(&[])),
        ] {
            assert_eq!(parse(given, None, false), expected);
        }
        assert_eq!(
            parse(argv(&["/usr/bin/gcc", "-c"]), None, true),
            compile(&["/usr/bin/gcc", "-c"])
        );
    }

    #[test]
    fn a_command_to_run_begins_behind_run() {
        let run = |items: &[&str]| command_to_run(&argv(items)).map(<[_]>::to_vec);
        assert_eq!(run(&["run", "make", "-j2"]), Some(argv(&["make", "-j2"])));
        assert_eq!(run(&["run", "--", "-odd"]), Some(argv(&["-odd"])));
        for none in [
            &["run"][..],
            &["run", "--"],
            &["run", "--help"],
            &["stats", "make"],
            &[],
        ] {
            assert_eq!(run(none), None);
        }
    }

    #[test]
    fn wrapped_files_survive_their_variable() {
        let first = FileId {
            dev: 1,
            ino: u64::MAX,
        };
        let second = FileId { dev: 7, ino: 9 };
        let value = wrapped_value(vec![first], second);
        let environment = Environment {
            entries: vec![[WRAPPED_VARIABLE.as_bytes(), b"=", &value].concat()],
        };
        assert_eq!(wrapped_files(&environment), [first, second]);
        let rubbish = Environment {
            entries: vec![b"HPCC_WRAPPED=a,1:,:2,3:4,\xff".to_vec()],
        };
        assert_eq!(wrapped_files(&rubbish), []);
    }
}
