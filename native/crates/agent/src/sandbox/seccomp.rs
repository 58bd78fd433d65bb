//! The system call filter of a sandbox. It refuses what a compiler never needs and what has been a way out of a
//! sandbox; calls newer than this list look absent, as on an older kernel.
use libc::{c_long, sock_filter};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Bit that marks calls of the x32 interface.
const X32_BIT: u32 = 0x4000_0000;
/// mseal, the newest call that this list has judged.
const NEWEST_CALL: u32 = 462;
/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Calls that are refused whatever their arguments.
const REFUSED: &[c_long] = &[
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Wide kernel interfaces.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    // Watches of files that all sandboxes share would tell one of another.
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Objects that outlive the process that made them.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_msgget,
    libc::SYS_msgctl,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_memfd_secret,
    libc::SYS_modify_ldt,
    libc::SYS_vmsplice,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
];

/// The program, made anew for each sandbox; about two hundred instructions.
pub fn filter() -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
        answer(KILL),
        load(NUMBER),
        jump(libc::BPF_JGE, X32_BIT, 0, 1),
        answer(KILL),
        jump(libc::BPF_JGT, NEWEST_CALL, 0, 1),
        answer(refuse(libc::ENOSYS)),
        // C libraries fall back to clone, whose flags can be seen.
        jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 0, 1),
        answer(refuse(libc::ENOSYS)),
        jump(libc::BPF_JEQ, libc::SYS_clone as u32, 0, 4),
        load(FIRST_ARGUMENT),
        jump(libc::BPF_JSET, NAMESPACE_FLAGS, 0, 1),
        answer(refuse(libc::EPERM)),
        answer(ALLOW),
        jump(libc::BPF_JEQ, libc::SYS_socket as u32, 1, 0),
        jump(libc::BPF_JEQ, libc::SYS_socketpair as u32, 0, 4),
        load(FIRST_ARGUMENT),
        jump(libc::BPF_JEQ, libc::AF_UNIX as u32, 1, 0),
        answer(refuse(libc::EAFNOSUPPORT)),
        answer(ALLOW),
    ];
    for &call in REFUSED {
        program.push(jump(libc::BPF_JEQ, call as u32, 0, 1));
        program.push(answer(refuse(libc::EPERM)));
    }
    program.push(answer(ALLOW));
    program
}

fn refuse(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

fn load(offset: u32) -> sock_filter {
    sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

fn jump(test: u32, value: u32, on_true: u8, on_false: u8) -> sock_filter {
    sock_filter {
        code: (libc::BPF_JMP | test | libc::BPF_K) as u16,
        jt: on_true,
        jf: on_false,
        k: value,
    }
}

fn answer(verdict: u32) -> sock_filter {
    sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would, on the four instructions that it uses.
    fn verdict(architecture: u32, number: u32, first_argument: u32) -> u32 {
        let program = filter();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    accumulator = match step.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        FIRST_ARGUMENT => first_argument,
                        offset => panic!("load of {offset}"),
                    }
                }
                code if code == libc::BPF_RET | libc::BPF_K => return step.k,
                code => {
                    let holds = match code & 0xf0 {
                        libc::BPF_JEQ => accumulator == step.k,
                        libc::BPF_JGT => accumulator > step.k,
                        libc::BPF_JGE => accumulator >= step.k,
                        libc::BPF_JSET => accumulator & step.k != 0,
                        other => panic!("jump {other:#x}"),
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
            }
        }
    }

    fn native(number: c_long, first_argument: u32) -> u32 {
        verdict(AUDIT_ARCH_X86_64, number as u32, first_argument)
    }

    #[test]
    fn what_compilers_use_is_allowed() {
        for call in [
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_vfork,
            libc::SYS_mmap,
            libc::SYS_futex,
        ] {
            assert_eq!(native(call, 0), ALLOW);
        }
        assert_eq!(
            native(
                libc::SYS_clone,
                libc::CLONE_VM as u32 | libc::CLONE_THREAD as u32
            ),
            ALLOW
        );
        assert_eq!(native(libc::SYS_socket, libc::AF_UNIX as u32), ALLOW);
        assert_eq!(native(libc::SYS_socketpair, libc::AF_UNIX as u32), ALLOW);
    }

    #[test]
    fn sockets_of_every_other_family_are_refused() {
        for family in (0..64).filter(|&family| family != libc::AF_UNIX as u32) {
            for call in [libc::SYS_socket, libc::SYS_socketpair] {
                assert_eq!(
                    native(call, family),
                    refuse(libc::EAFNOSUPPORT),
                    "family {family}"
                );
            }
        }
    }

    #[test]
    fn refused_calls_and_namespaces_are_refused() {
        for &call in REFUSED {
            assert_eq!(native(call, 0), refuse(libc::EPERM), "call {call}");
        }
        for bit in 0..32 {
            let flag = 1u32 << bit;
            let expected = if flag & NAMESPACE_FLAGS != 0 {
                refuse(libc::EPERM)
            } else {
                ALLOW
            };
            assert_eq!(
                native(libc::SYS_clone, flag | 17),
                expected,
                "flag {flag:#x}"
            );
        }
        assert_eq!(native(libc::SYS_clone3, 0), refuse(libc::ENOSYS));
    }

    #[test]
    fn unknown_calls_and_other_interfaces_are_refused() {
        assert_eq!(
            verdict(AUDIT_ARCH_X86_64, NEWEST_CALL + 1, 0),
            refuse(libc::ENOSYS)
        );
        assert_eq!(
            verdict(AUDIT_ARCH_X86_64, X32_BIT | 41, libc::AF_INET as u32),
            KILL
        );
        assert_eq!(verdict(AUDIT_ARCH_X86_64, u32::MAX, 0), KILL);
        assert_eq!(verdict(0x4000_0003, 102, 0), KILL);
    }
}
