//! Finds the plan that says which compiler is a project's real one.
//! UNTRUSTED: files of the caller's folders; the plan itself is the user's own file.

use crate::digest::sha256_hex;
use crate::environment::join;
use crate::sys;
use hpcc_frames::{FRAME_BYTES_MAX, Plan, decode_plan};
use std::io;
use std::os::fd::AsFd;

const CONFIGURATION: &[u8] = b"hpcc.toml";
const VERSION_CONTROL: [&[u8]; 3] = [b".git", b".hg", b".svn"];
const CONFIGURATION_BYTES_MAX: u64 = 1024 * 1024;

pub enum Found {
    Plan(Plan),
    /// The project's configuration speaks of an image, or a plan is there but cannot be read.
    Unplanned,
    /// Nothing says that the host's compiler is not the one.
    Nothing,
}

/// The plan for a folder.
pub fn find_plan(state: &[u8], folder: &[u8]) -> Found {
    let plans = join(state, b"plans");
    let root = project_root(folder);
    let mut is_unreadable = false;
    let mut look = |folder: &[u8]| match read_plan(&plans, folder) {
        Ok(plan) => Some(plan),
        Err(error) => {
            is_unreadable |= error.raw_os_error() != Some(libc::ENOENT);
            None
        }
    };
    if let Some(plan) = root.and_then(&mut look) {
        return Found::Plan(plan);
    }
    for folder in upwards(folder) {
        if let Some(plan) = look(folder) {
            return Found::Plan(plan);
        }
        if Some(folder) == root {
            break;
        }
    }
    if is_unreadable || root.is_some_and(names_image) {
        Found::Unplanned
    } else {
        Found::Nothing
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

fn names_image(root: &[u8]) -> bool {
    read_file(&join(root, CONFIGURATION), CONFIGURATION_BYTES_MAX)
        .is_ok_and(|text| text.windows(5).any(|word| word == b"image"))
}

fn read_plan(plans: &[u8], root: &[u8]) -> io::Result<Plan> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let path = join(plans, sha256_hex(root).as_bytes());
    let bytes = read_file(&path, FRAME_BYTES_MAX as u64 + 4)?;
    let plan = decode_plan(&bytes).map_err(|_| invalid())?;
    if plan.project_root == root {
        Ok(plan)
    } else {
        Err(invalid())
    }
}

fn read_file(path: &[u8], max: u64) -> io::Result<Vec<u8>> {
    let file = sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
    let stat = sys::fstat(file.as_fd())?;
    if !stat.is_regular() || stat.size > max {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut bytes = vec![0; usize::try_from(stat.size).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match sys::read(file.as_fd(), &mut bytes[filled..])? {
            0 => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            count => filled += count,
        }
    }
    Ok(bytes)
}
