//! Gives up everything but reading and writing what is open, for good.
use std::io;

use libc::{c_long, sock_filter};

/// What a runtime needs that has its descriptors. None opens, makes, finds or signals anything.
const ALLOWED: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// Third argument of mmap: its protection.
const THIRD_ARGUMENT: u32 = 32;
/// Address space: the program, its windows and buffers, several times over.
const MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Confines this process; what follows can only read and write. Any other call kills it.
pub fn confine() -> io::Result<()> {
    let limits = [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_NPROC, 0),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_AS, MEMORY_BYTES_MAX),
    ];
    for (resource, value) in limits {
        let limit = libc::rlimit {
            rlim_cur: value,
            rlim_max: value,
        };
        // SAFETY: the kernel reads the structure.
        check(unsafe { libc::setrlimit(resource, &raw const limit) }.into())?;
    }
    for (option, value) in [(libc::PR_SET_DUMPABLE, 0), (libc::PR_SET_NO_NEW_PRIVS, 1)] {
        // SAFETY: numbers only.
        check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into())?;
    }
    let filter = filter();
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which lives through the call, and writes nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })?;
    Ok(())
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn filter() -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCHITECTURE),
        equal(AUDIT_ARCH_X86_64, 1, 0),
        answer(KILL),
        load(NUMBER),
    ];
    for &call in ALLOWED {
        program.push(equal(call as u32, 0, 1));
        program.push(answer(ALLOW));
    }
    // Memory, but none that can be executed.
    program.push(equal(libc::SYS_mmap as u32, 1, 0));
    program.push(answer(KILL));
    program.push(load(THIRD_ARGUMENT));
    program.push(statement(
        libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
        libc::PROT_EXEC as u32,
        0,
        1,
    ));
    program.push(answer(KILL));
    program.push(answer(ALLOW));
    program
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn equal(value: u32, on_true: u8, on_false: u8) -> sock_filter {
    statement(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        value,
        on_true,
        on_false,
    )
}

fn answer(verdict: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, verdict, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs something in a confined fork; gives the wait status.
    fn confined(action: impl FnOnce()) -> i32 {
        // SAFETY: the child calls only what makes no use of other threads, and leaves by _exit or a signal.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code = i32::from(confine().is_err());
            if code == 0 {
                action();
            }
            // SAFETY: takes no pointers and does not return.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: the kernel writes the status.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        status
    }

    fn call(number: c_long, arguments: [c_long; 6]) {
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: the filter kills the process at the call; numbers and a string that lives for ever.
        unsafe { libc::syscall(number, a, b, c, d, e, f) };
    }

    #[test]
    fn a_confined_process_goes_on() {
        let status = confined(|| {
            let _ = std::hint::black_box(vec![1u8; 1 << 22]);
            // SAFETY: writes nothing.
            unsafe { libc::write(1, [0u8; 0].as_ptr().cast(), 0) };
        });
        assert_eq!(status, 0);
    }

    #[test]
    fn what_leads_out_kills_it() {
        let path = c"/etc/passwd".as_ptr() as c_long;
        let exec = (libc::PROT_READ | libc::PROT_EXEC).into();
        let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into();
        let parent = c_long::from(std::process::id());
        let rows = [
            (libc::SYS_openat, [libc::AT_FDCWD.into(), path, 0, 0, 0, 0]),
            (libc::SYS_socket, [libc::AF_UNIX.into(), 1, 0, 0, 0, 0]),
            (libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
            (libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]),
            (libc::SYS_kill, [parent, 0, 0, 0, 0, 0]),
            (libc::SYS_ptrace, [16, parent, 0, 0, 0, 0]),
            (libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0, 0]),
            (libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0, 0]),
            (libc::SYS_mmap, [0, 4096, exec, private, -1, 0]),
            (libc::SYS_mprotect, [0, 0, exec, 0, 0, 0]),
            (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
            (libc::SYS_prctl, [0, 0, 0, 0, 0, 0]),
        ];
        for (number, arguments) in rows {
            let status = confined(|| call(number, arguments));
            assert_eq!(status & 0x7f, libc::SIGSYS, "call {number}");
        }
    }
}
