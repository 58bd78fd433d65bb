//! Becoming another program: in a namespace or here, with the caller's signals. Same pid, so exit and wait status are the program's own.

use crate::caller::{Caller, warn};
use crate::fault::Fault;
use crate::image_environment::for_image;
use crate::inside;
use crate::invocation::WRAPPED_VARIABLE;
use crate::namespace::Namespace;
use crate::sys::{self, StringTable};
use hpcc_frames::{Errand, NamespaceRef};
use std::io;

pub struct Target<'a> {
    pub program: &'a [u8],
    pub argv: &'a [Vec<u8>],
    pub environment: &'a [Vec<u8>],
    /// None: the folder that we are in.
    pub folder: Option<&'a [u8]>,
    pub namespace: Option<&'a NamespaceRef>,
    pub warning: Option<&'a str>,
}

/// Returns only what kept us from it; then nothing has changed.
pub fn become_program(target: &Target, caller: &Caller) -> Fault {
    match try_become(target, caller) {
        Ok(never) => match never {},
        Err(fault) => fault,
    }
}

enum Never {}

fn try_become(target: &Target, caller: &Caller) -> Result<Never, Fault> {
    let fault = |error: io::Error| Fault::io("exec", target.program, &error);
    let program = sys::c_string(target.program).map_err(fault)?;
    let argv = StringTable::new(target.argv).map_err(fault)?;
    let Some(reference) = target.namespace else {
        let environment = StringTable::new(target.environment).map_err(fault)?;
        let here = sys::open(b".", libc::O_PATH | libc::O_DIRECTORY, 0).ok();
        if let Some(folder) = target.folder {
            sys::change_folder(folder).map_err(|error| Fault::io("exec", folder, &error))?;
        }
        if caller.errand == Errand::Inside {
            inside::reveal().map_err(|error| Fault::io("namespace", b"/hpcc/real", &error))?;
        }
        target.warning.inspect(|text| warn(text));
        caller.signals.restore();
        let error = sys::exec(&program, &argv, &environment);
        if let Some(here) = here {
            sys::return_to(&here);
        }
        if error.raw_os_error() == Some(libc::ENOEXEC) {
            return Err(run_script(target, &environment));
        }
        return Err(fault(error));
    };
    let namespace_fault = |error: io::Error| {
        Fault::io(
            "namespace",
            reference.holder_pid.to_string().as_bytes(),
            &error,
        )
    };
    let namespace = Namespace::open(reference).map_err(namespace_fault)?;
    let folder = target
        .folder
        .map_or_else(sys::current_folder, |folder| Ok(folder.to_vec()))
        .map_err(fault)?;
    namespace
        .check(target.program, &folder)
        .map_err(namespace_fault)?;
    let mut environment = for_image(target.environment, &folder, |path| namespace.has(path));
    if caller.errand == Errand::Command {
        // Its compilers are the launcher, which is not to stand aside.
        environment = environment.without(WRAPPED_VARIABLE);
    }
    let environment = StringTable::new(&environment.entries).map_err(fault)?;
    namespace.enter().map_err(namespace_fault)?;
    // No way back from here: what fails now is told as a shell tells it.
    if let Err(error) = sys::change_folder(&folder) {
        give_up(&folder, &error);
    }
    target.warning.inspect(|text| warn(text));
    caller.signals.restore();
    let error = sys::exec(&program, &argv, &environment);
    if caller.errand == Errand::Command && error.raw_os_error() == Some(libc::ENOEXEC) {
        run_script(target, &environment);
    }
    give_up(target.program, &error)
}

/// A script without `#!`, run as a shell's exec runs it.
fn run_script(target: &Target, environment: &StringTable) -> Fault {
    let mut argv = vec![b"/bin/sh".to_vec(), target.program.to_vec()];
    argv.extend_from_slice(target.argv.get(1..).unwrap_or_default());
    let error = match StringTable::new(&argv) {
        Ok(argv) => sys::exec(c"/bin/sh", &argv, environment),
        Err(error) => error,
    };
    Fault::io("exec", target.program, &error)
}

fn give_up(what: &[u8], error: &io::Error) -> ! {
    warn(&format!("{}: {error}", crate::fault::display(what)));
    sys::exit(if error.raw_os_error() == Some(libc::ENOENT) {
        127
    } else {
        126
    })
}
