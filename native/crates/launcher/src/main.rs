//! `hpcc`, the launcher: called in place of a compiler, it lets the daemon decide and acts itself, and ends in the real
//! compiler whenever anything of hpcc fails. With a sub-command it becomes Node with the program bundle.
//!
//! No Rust runtime: `main` is C's, so signals and descriptors are as the caller left them, and nothing is started that a
//! compile does not need.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, unused_imports))]

mod become_program;
mod call;
mod caller;
mod connection;
mod digest;
mod environment;
mod fallback;
mod fault;
mod image_environment;
mod inside;
mod invocation;
mod namespace;
mod outputs;
mod plan;
mod policy;
mod replay;
mod signals;
mod spawn;
mod start;
mod sys;

use caller::{Caller, warn};
use environment::Environment;
use hpcc_frames::Errand;
use invocation::{FileId, Invocation};
use std::ffi::CStr;
use std::sync::OnceLock;

/// What a panic has to fall back with, and the process whose panic it is.
static CALLER: OnceLock<(Caller, u32)> = OnceLock::new();

#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, arguments: *const *const libc::c_char) -> libc::c_int {
    let mut argv = Vec::new();
    for at in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: C hands main `count` pointers to C strings.
        let argument = unsafe { CStr::from_ptr(*arguments.add(at)) };
        argv.push(argument.to_bytes().to_vec());
    }
    launch(argv)
}

fn launch(argv: Vec<Vec<u8>>) -> ! {
    sys::hold_standard_descriptors();
    let environment = Environment::own();
    let own = invocation::own_file();
    let is_inside = inside::is_inside();
    match invocation::parse(argv, own, is_inside) {
        Invocation::Command(arguments) => {
            if let Some(command) = invocation::command_to_run(&arguments) {
                run_in_image(command.to_vec(), environment, own);
            }
            if is_inside {
                warn("its commands work outside of `hpcc run`; in it, compilers and `hpcc run` do");
                sys::exit(1);
            }
            run_command(&arguments, &environment)
        }
        Invocation::Compile(mut argv) => {
            let mut errand = Errand::Compile;
            if is_inside && let Some(name) = argv.first_mut() {
                *name = inside::called_path(name, &environment, own);
                errand = Errand::Inside;
            }
            let signals = take_signals();
            let (caller, _) = CALLER.get_or_init(|| {
                (
                    Caller {
                        argv,
                        environment,
                        own,
                        signals,
                        errand,
                    },
                    sys::process_id(),
                )
            });
            std::panic::set_hook(Box::new(|_| fall_back_from_panic()));
            compile(caller)
        }
    }
}

fn take_signals() -> signals::Signals {
    signals::Signals::take().unwrap_or_else(|error| {
        warn(&format!("signals: {error}"));
        sys::exit(1)
    })
}

/// What ends `hpcc run` when no command was run, as env(1) does.
const EXIT_NOT_RUN: i32 = 125;

/// Becomes a command with the image's files around it; nothing else will do in its place.
fn run_in_image(argv: Vec<Vec<u8>>, environment: Environment, own: Option<FileId>) -> ! {
    let signals = take_signals();
    let errand = Errand::Command;
    let fault = call::make(&Caller {
        argv,
        environment,
        own,
        signals,
        errand,
    });
    warn(&format!("run: {fault}. `hpcc doctor` looks for the cause"));
    sys::exit(EXIT_NOT_RUN)
}

fn compile(caller: &Caller) -> ! {
    // Below another launcher: that one counts, and must not wait for itself.
    if caller
        .environment
        .get(invocation::WRAPPED_VARIABLE)
        .is_some()
    {
        fallback::run_host_compiler(caller, None);
    }
    if caller.environment.flag("HPCC_DISABLE") {
        fallback::run_real_compiler(caller, None)
    }
    let fault = if (1..3).any(sys::is_left_closed) && fallback::may_run_compiler(caller) {
        // Compilers fail where they cannot speak, or write their words into a file of theirs.
        fault::Fault::new("closed-stream", "")
    } else {
        match replay::replay(caller) {
            replay::End::AskDaemon(_) => call::make(caller),
            replay::End::Fault(fault) => fault,
        }
    };
    fallback::record(caller, &fault);
    fallback::run_real_compiler(caller, Some(&fault))
}

/// A bug of ours must not break the build. A forked child only ends: its parent is told.
fn fall_back_from_panic() {
    if let Some((caller, process)) = CALLER.get()
        && *process == sys::process_id()
    {
        let fault = fault::Fault::new("panic", "a bug of hpcc");
        fallback::record(caller, &fault);
        fallback::run_real_compiler(caller, Some(&fault));
    }
    sys::exit(127)
}

fn run_command(arguments: &[Vec<u8>], environment: &Environment) -> ! {
    let fail = |what: &str| -> ! {
        warn(what);
        sys::exit(1)
    };
    let program = start::Program::find(environment).unwrap_or_else(|fault| {
        fail(&format!(
            "the installation is not complete: {}",
            fault.detail
        ))
    });
    let is_daemon = arguments.first().is_some_and(|first| first == b"daemon")
        && arguments.iter().any(|argument| argument == b"--foreground");
    if is_daemon && let Err(fault) = start::lock_for_own_daemon(environment) {
        fail(&fault.detail);
    }
    let tables = sys::StringTable::new(&program.argv(arguments)).and_then(|argv| {
        Ok((
            sys::c_string(&program.node)?,
            argv,
            sys::StringTable::new(&environment.entries)?,
        ))
    });
    let error = match tables {
        Ok((node, argv, entries)) => sys::exec(&node, &argv, &entries),
        Err(error) => error,
    };
    fail(&format!("{}: {error}", fault::display(&program.node)))
}
