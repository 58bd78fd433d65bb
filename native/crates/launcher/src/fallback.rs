//! The real compiler: the image's where the project's plan names one, else the host's. Nothing of the daemon is needed.

use crate::become_program::{Target, become_program};
use crate::caller::{Caller, warn};
use crate::environment::join;
use crate::fault::{Fault, display};
use crate::image_environment::for_image;
use crate::invocation::{
    FileId, HostCompiler, Missing, WRAPPED_VARIABLE, find_host_compiler, wrapped_files,
    wrapped_value,
};
use crate::namespace::open_in_root;
use crate::plan::{Found, find_plan};
use crate::policy::Settings;
use crate::sys;
use hpcc_frames::{Errand, Fallback, PlanCompiler, PlanImage};
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

const LOG_BYTES_MAX: u64 = 1024 * 1024;
const EXIT_NOT_FOUND: i32 = 127;
const EXIT_NOT_EXECUTABLE: i32 = 126;
const EXIT_NO_IMAGE: i32 = 1;

/// Notes why a call fell back, for `hpcc stats`. Never fails.
pub fn record(caller: &Caller, fault: &Fault) {
    if caller.environment.flag("HPCC_VERBOSE") {
        warn(&format!(
            "{}: {}; running the real compiler",
            fault.name, fault.detail
        ));
    }
    let state = caller.environment.state_folder();
    let path = join(&state, b"fallbacks.log");
    if sys::lstat(&path).is_ok_and(|stat| stat.size > LOG_BYTES_MAX)
        || sys::make_folders(&state).is_err()
    {
        return;
    }
    let flags =
        libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    if let Ok(log) = sys::open(&path, flags, 0o600) {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let line = format!(
            "{seconds}\t{}\t{}\n",
            fault.name,
            display(fault.detail.as_bytes())
        );
        let _ = sys::write(log.as_fd(), line.as_bytes());
    }
}

/// Becomes the project's real compiler, or ends as a shell would that cannot find it. The fault is what led here; none for a call
/// that is kept from hpcc on purpose.
pub fn run_real_compiler(caller: &Caller, fault: Option<&Fault>) -> ! {
    let folder = sys::current_folder().unwrap_or_default();
    let settings = Settings::of(&caller.environment);
    match find_plan(&caller.environment.state_folder(), &folder, &settings) {
        Found::Plan(plan) => {
            let Some(image) = &plan.image else {
                run_host_compiler(caller, None)
            };
            let policy = settings.fallback().unwrap_or(image.fallback);
            let is_asked_for = fault.is_none_or(Fault::follows_exec);
            if policy == Fallback::None && !is_asked_for {
                refuse("no compile may run on this machine", policy, fault)
            }
            run_image_compiler(caller, image, policy)
        }
        Found::Nothing => run_host_compiler(caller, None),
        Found::Unplanned(root) => {
            let policy = settings.fallback().unwrap_or(Fallback::Image);
            if policy == Fallback::Host {
                let warning = "this project's image is not ready; using the host's compiler";
                run_host_compiler(caller, Some(warning));
            }
            let what = format!("the image of {} is not ready", display(&root));
            refuse(&what, policy, fault)
        }
    }
}

/// Whether the project's policy lets a compiler run on this machine.
pub fn may_run_compiler(caller: &Caller) -> bool {
    let folder = sys::current_folder().unwrap_or_default();
    let settings = Settings::of(&caller.environment);
    match find_plan(&caller.environment.state_folder(), &folder, &settings) {
        Found::Plan(plan) => plan
            .image
            .as_ref()
            .is_none_or(|image| settings.fallback().unwrap_or(image.fallback) != Fallback::None),
        Found::Nothing => true,
        Found::Unplanned(_) => settings.fallback() == Some(Fallback::Host),
    }
}

/// Ends the call, where the policy leaves nothing that may run.
fn refuse(what: &str, policy: Fallback, fault: Option<&Fault>) -> ! {
    let why = fault.map_or_else(
        || "hpcc is switched off for this call".to_owned(),
        Fault::to_string,
    );
    let other = match policy {
        Fallback::None => "HPCC_FALLBACK=image lets the image's compiler run",
        _ => "HPCC_FALLBACK=host lets the host's compiler run",
    };
    warn(&format!(
        "{what} (fallback = \"{}\"), and no worker was asked: {why}. Run `hpcc doctor` there; {other}",
        policy.name()
    ));
    sys::exit(EXIT_NO_IMAGE)
}

fn run_image_compiler(caller: &Caller, image: &PlanImage, policy: Fallback) -> ! {
    if caller.errand == Errand::Inside {
        let words = image_program(caller, image).map_or(&[][..], |(_, words)| words);
        run_own_compiler(caller, words);
    }
    let Some((program, arguments)) = image_program(caller, image) else {
        warn(&format!(
            "{}: not in the project's image {}",
            display(caller.name()),
            image.digest
        ));
        sys::exit(EXIT_NOT_FOUND);
    };
    let mut argv = vec![called_name(caller, image, &program)];
    argv.extend_from_slice(arguments);
    argv.extend_from_slice(caller.argv.get(1..).unwrap_or_default());
    // The maker of a sandbox seeks the program by its first word.
    let sandbox_argv = [
        image.sandbox_argv.as_slice(),
        std::slice::from_ref(&program),
        argv.get(1..).unwrap_or_default(),
    ]
    .concat();
    let mut faults = Vec::new();
    let inside = Target {
        program: &program,
        argv: &argv,
        environment: &caller.environment.entries,
        folder: None,
        namespace: image.namespace.as_ref(),
        warning: None,
    };
    if inside.namespace.is_some() {
        faults.push(become_program(&inside, caller));
    }
    if let Some(sandbox) = image.sandbox_argv.first() {
        faults.push(become_program(
            &Target {
                program: sandbox,
                argv: &sandbox_argv,
                environment: &sandbox_environment(caller, image),
                namespace: None,
                ..inside
            },
            caller,
        ));
    }
    let why = faults
        .iter()
        .map(|fault| fault.detail.as_str())
        .collect::<Vec<_>>()
        .join("; ");
    if policy == Fallback::Host {
        run_host_compiler(
            caller,
            Some(&format!(
                "cannot enter the project's image ({why}); using the host's compiler"
            )),
        );
    }
    warn(&format!(
        "cannot enter the project's image {} ({why}), and its policy allows no other compiler",
        image.digest
    ));
    sys::exit(EXIT_NO_IMAGE)
}

/// Becomes the compiler in whose place the launcher stands.
fn run_own_compiler(caller: &Caller, words: &[Vec<u8>]) -> ! {
    let path = caller.name().to_vec();
    let given = caller.argv.get(1..).unwrap_or_default();
    let argv = [&[path][..], words, given].concat();
    run_host_target(
        caller,
        &HostTarget {
            argv: Some(&argv),
            environment: None,
            folder: None,
            warning: None,
        },
    )
}

/// The environment for a namespace that is not there yet: what of the loader's files the image has is all that can be known.
fn sandbox_environment(caller: &Caller, image: &PlanImage) -> Vec<Vec<u8>> {
    let folder = sys::current_folder().unwrap_or_default();
    for_image(&caller.environment.entries, &folder, |path| {
        stat_in_image(image, path).is_some()
    })
    .entries
}

fn stat_in_image(image: &PlanImage, path: &[u8]) -> Option<sys::Stat> {
    let root = sys::open(&image.root, libc::O_PATH | libc::O_DIRECTORY, 0).ok()?;
    let file = open_in_root(root.as_fd(), &sys::c_string(path).ok()?).ok()?;
    sys::fstat(file.as_fd()).ok()
}

/// Folders of the machine's own programs: called by a path below one of these, a compiler means the image's of that name.
const SYSTEM_FOLDERS: [&[u8]; 3] = [b"/usr/", b"/bin/", b"/sbin/"];

/// The compiler's path in the image and the plan's arguments for it. A path of the machine's own programs means the image's program
/// of that name; any other path that is not one of the image's compilers, such as that of a wrapper in the project, is the caller's
/// own program, run as it is. What the image has beside its compilers (`c99`, `cpp`) runs as it is, too. So it is to the daemon.
fn image_program<'a>(caller: &Caller, image: &'a PlanImage) -> Option<(Vec<u8>, &'a [Vec<u8>])> {
    let name = caller.name();
    let find = |matches: &dyn Fn(&PlanCompiler) -> bool| {
        let found = image.compilers.iter().find(|compiler| matches(compiler))?;
        Some((found.path.clone(), found.arguments.as_slice()))
    };
    if let Some(found) = find(&|compiler| compiler.path == name) {
        return Some(found);
    }
    let own = own_program(caller);
    let is_system = |path: &Vec<u8>| SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder));
    if let Some(path) = own.filter(|path| !is_system(path)) {
        return Some((path, &[]));
    }
    let name = sys::base_name(name);
    find(&|compiler| compiler.name == name).or_else(|| {
        let mut paths = image
            .program_folders
            .iter()
            .map(|folder| join(folder, name));
        let is_program = |path: &Vec<u8>| {
            stat_in_image(image, path)
                .is_some_and(|stat| stat.is_regular() && stat.mode & 0o111 != 0)
        };
        Some((paths.find(is_program)?, [].as_slice()))
    })
}

/// argv[0]: the caller's word where PATH has the program for it, else the program's path, as GCC seeks its own files beside what PATH
/// has. So it is to the daemon.
fn called_name(caller: &Caller, image: &PlanImage, program: &[u8]) -> Vec<u8> {
    let name = caller.name();
    let path = caller.environment.get("PATH").unwrap_or_default();
    for folder in path.split(|byte| *byte == b':') {
        let candidate = join(folder, name);
        if candidate == program {
            return name.to_vec();
        }
        let is_taken = sys::stat(&candidate).is_ok() || stat_in_image(image, &candidate).is_some();
        if folder.first() != Some(&b'/') || name.contains(&b'/') || is_taken {
            break;
        }
    }
    program.to_vec()
}

/// The program that the call names by a path, unless it is the launcher itself.
fn own_program(caller: &Caller) -> Option<Vec<u8>> {
    let name = caller.name();
    if !name.contains(&b'/') || (caller.own.is_some() && FileId::of(name) == caller.own) {
        return None;
    }
    match name.first() {
        Some(b'/') => Some(name.to_vec()),
        _ => sys::current_folder().ok().map(|folder| join(&folder, name)),
    }
}

/// Becomes the host's compiler of the call's name.
pub fn run_host_compiler(caller: &Caller, warning: Option<&str>) -> ! {
    run_host_target(
        caller,
        &HostTarget {
            argv: None,
            environment: None,
            folder: None,
            warning,
        },
    )
}

fn run_host_target(caller: &Caller, target: &HostTarget) -> ! {
    let fault = become_host_compiler(caller, target);
    let code = match fault.name {
        "not-found" => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    };
    warn(&format!("{}: {}", display(caller.name()), fault.detail));
    sys::exit(code)
}

/// What may differ from the caller's own; none means the caller's own.
pub struct HostTarget<'a> {
    pub argv: Option<&'a [Vec<u8>]>,
    pub environment: Option<&'a [Vec<u8>]>,
    pub folder: Option<&'a [u8]>,
    pub warning: Option<&'a str>,
}

/// Becomes the host's compiler; returns only what kept us from it.
pub fn become_host_compiler(caller: &Caller, target: &HostTarget) -> Fault {
    let found = match find_host_compiler(caller.name(), &caller.environment, caller.own) {
        // Of the namespace, the compilers alone are behind the launcher.
        _ if caller.errand == Errand::Inside => HostCompiler {
            path: caller.name().to_vec(),
            id: FileId::of(caller.name()).unwrap_or(FileId { dev: 0, ino: 0 }),
            behind_launcher: false,
        },
        Ok(found) => found,
        Err(Missing::NotFound) => return Fault::new("not-found", "command not found"),
        Err(Missing::NotExecutable) => return Fault::new("not-executable", "Permission denied"),
    };
    let mut argv = target
        .argv
        .map_or_else(|| caller.argv.clone(), <[_]>::to_vec);
    if target.argv.is_none()
        && found.behind_launcher
        && let Some(name) = argv.first_mut()
    {
        name.clone_from(&found.path);
    }
    let wrapped = wrapped_value(wrapped_files(&caller.environment), found.id);
    let entries = target
        .environment
        .unwrap_or(&caller.environment.entries)
        .to_vec();
    let environment = crate::environment::Environment { entries }.with(WRAPPED_VARIABLE, &wrapped);
    become_program(
        &Target {
            program: &found.path,
            argv: &argv,
            environment: &environment,
            folder: target.folder,
            namespace: None,
            warning: target.warning,
        },
        caller,
    )
}
