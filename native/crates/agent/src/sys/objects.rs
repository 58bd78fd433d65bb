//! Kernel objects that have no file: System V IPC and keys.
use std::io;
use std::ptr;

use super::check;

/// A kind of System V object.
#[derive(Debug, Clone, Copy)]
pub enum SysV {
    Memory,
    Semaphores,
    Messages,
}

/// Removes an object; who holds it may go on with it.
pub fn remove_sysv(kind: SysV, id: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID takes no structure, so the pointer may be null.
    let result = unsafe {
        match kind {
            SysV::Memory => libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()),
            SysV::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
            SysV::Messages => libc::msgctl(id, libc::IPC_RMID, ptr::null_mut()),
        }
    };
    check(result.into()).map(drop)
}

const KEYCTL_REVOKE: libc::c_long = 3;
const KEYCTL_INVALIDATE: libc::c_long = 21;

/// Makes a key useless and has the kernel forget it.
pub fn remove_key(serial: i32) {
    for operation in [KEYCTL_REVOKE, KEYCTL_INVALIDATE] {
        // SAFETY: numbers only. What could not be removed is found by the next count.
        unsafe { libc::syscall(libc::SYS_keyctl, operation, libc::c_long::from(serial)) };
    }
}
