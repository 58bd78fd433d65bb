//! From a privileged fork to the tenant's program.
use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::inputs;
use super::record::{Blame, Fault, Step};
use crate::request::Job;
use crate::sys;

/// Becomes the program of the job; returns only if it cannot.
pub fn become_program(job: &Job, uid: u32, filter: &[libc::sock_filter]) -> Fault {
    match prepare(job, uid, filter) {
        Err(fault) => fault,
        Ok(()) => {
            let error = sys::exec(&job.argv[0], &job.argv, &job.environment);
            let fault = Fault::at(Step::Exec)(error);
            let absent = [
                libc::ENOENT,
                libc::ENOTDIR,
                libc::EACCES,
                libc::ENOEXEC,
                libc::EISDIR,
                libc::ELOOP,
            ];
            let blame = match fault.errno {
                libc::E2BIG => Blame::Request,
                errno if absent.contains(&errno) => Blame::Program,
                _ => fault.blame,
            };
            Fault { blame, ..fault }
        }
    }
}

fn prepare(job: &Job, uid: u32, filter: &[libc::sock_filter]) -> Result<(), Fault> {
    rustix::process::setsid().map_err(Fault::at(Step::Process))?;
    give_up_privileges(uid).map_err(Fault::at(Step::Privileges))?;
    let entered =
        inputs::open_folder(&job.cwd).and_then(|folder| Ok(rustix::process::fchdir(folder)?));
    entered.map_err(Fault::at(Step::WorkingFolder))?;
    sys::set_seccomp_filter(filter).map_err(Fault::at(Step::Filter))
}

/// Takes another user's ids and leaves every capability; the bounding set is empty already.
pub fn give_up_privileges(id: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}
