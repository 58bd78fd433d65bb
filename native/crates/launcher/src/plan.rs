//! Finds the plan that says which compiler is a project's real one.
//! UNTRUSTED: files of the caller's folders; the plan itself is the user's own file.

use crate::digest::sha256_hex;
use crate::environment::join;
use crate::policy::Settings;
use crate::sys;
use hpcc_frames::{FRAME_BYTES_MAX, PLAN_VERSION, Plan, decode_plan, plan_version};
use std::io;

const CONFIGURATION: &[u8] = b"hpcc.toml";
/// Says which image the configuration's name for one is.
const LOCK: &[u8] = b"hpcc.lock";
const VERSION_CONTROL: [&[u8]; 3] = [b".git", b".hg", b".svn"];
const CONFIGURATION_BYTES_MAX: u64 = 1024 * 1024;

pub enum Found {
    Plan(Box<Plan>),
    /// A project that is bound to an image, as far as can be known, without a plan that holds: there is none yet, it cannot be
    /// read, or it was made from another configuration. With its root.
    Unplanned(Vec<u8>),
    /// Nothing says that the host's compiler is not the one.
    Nothing,
}

/// The plan for a folder.
pub fn find_plan(state: &[u8], folder: &[u8], settings: &Settings) -> Found {
    let plans = join(state, b"plans");
    let root = project_root(folder);
    let mut is_void = None;
    let mut look = |folder: &[u8]| match read_plan(&plans, folder) {
        Ok(plan) => Some(plan),
        Err(error) => {
            // A root shows by itself whether it is bound; the plan of a build tree is all that is known of it.
            let is_absent = match error.raw_os_error() {
                Some(libc::ENOENT | libc::EACCES | libc::ENOTDIR) => true,
                Some(libc::ESTALE) => Some(folder) == root,
                _ => false,
            };
            if !is_absent {
                is_void.get_or_insert_with(|| folder.to_vec());
            }
            None
        }
    };
    if let Some(plan) = root.and_then(&mut look) {
        return Found::Plan(Box::new(plan));
    }
    for folder in upwards(folder) {
        if let Some(plan) = look(folder) {
            return Found::Plan(Box::new(plan));
        }
        if Some(folder) == root {
            break;
        }
    }
    let is_bound = |root: &&[u8]| has(root, CONFIGURATION) || settings.name_image();
    match is_void.or_else(|| root.filter(is_bound).map(<[u8]>::to_vec)) {
        Some(root) => Found::Unplanned(root),
        None => Found::Nothing,
    }
}

/// The folder and each one above it.
fn upwards(folder: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(folder), |&folder| {
        (folder != b"/" && folder != b".").then(|| sys::parent_of(folder))
    })
}

fn has(folder: &[u8], name: &[u8]) -> bool {
    sys::lstat(&join(folder, name)).is_ok()
}

/// The nearest folder with a configuration, else the nearest under version control; never the root folder.
fn project_root(folder: &[u8]) -> Option<&[u8]> {
    let folders = || upwards(folder).filter(|&folder| folder != b"/");
    folders()
        .find(|folder| has(folder, CONFIGURATION))
        .or_else(|| folders().find(|folder| VERSION_CONTROL.iter().any(|name| has(folder, name))))
}

/// A folder's plan. ESTALE for one that does not hold any more: of another release, or made from another configuration.
fn read_plan(plans: &[u8], folder: &[u8]) -> io::Result<Plan> {
    let fault = io::Error::from_raw_os_error;
    let path = join(plans, sha256_hex(folder).as_bytes());
    let bytes = sys::read_file(&path, FRAME_BYTES_MAX as u64 + 4)?;
    if plan_version(&bytes).is_some_and(|version| version != PLAN_VERSION) {
        return Err(fault(libc::ESTALE));
    }
    let plan = decode_plan(&bytes).map_err(|_| fault(libc::EINVAL))?;
    if plan.project_root != folder {
        return Err(fault(libc::EINVAL));
    }
    if is_current(&plan) {
        Ok(plan)
    } else {
        Err(fault(libc::ESTALE))
    }
}

/// Whether the configuration is still the one that the plan was made from: its bytes, and behind a NUL those of a lock beside it.
fn is_current(plan: &Plan) -> bool {
    let read = |path: &[u8]| match sys::read_file(path, CONFIGURATION_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    };
    let lock = join(sys::parent_of(&plan.configuration), LOCK);
    let (Ok(bytes), Ok(lock)) = (read(&plan.configuration), read(&lock)) else {
        return false;
    };
    let digest = bytes.map(|mut bytes| {
        if let Some(lock) = lock {
            bytes.push(0);
            bytes.extend(lock);
        }
        sha256_hex(&bytes)
    });
    digest == plan.configuration_digest
}
