//! Jailer, VMM and worker of the tests, in one static program that goes by the name under which it was started. The jailer does
//! what Firecracker's does to a jail. The VMM does whatever it is told on its API socket, one order per line, with the rights
//! that a VMM has; what its jail's initramfs says it does before.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::time::Duration;

type Outcome = Result<String, Box<dyn std::error::Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let role = arguments[0].rsplit('/').next().unwrap_or("").to_string();
    if arguments.get(1).map(String::as_str) == Some("--version") {
        println!("{role} v1.16.1");
        return;
    }
    let outcome = match role.as_str() {
        "jailer" => jail(&arguments[1..]),
        "firecracker" => run(),
        _ => work(&arguments[1]),
    };
    if let Err(error) = outcome {
        eprintln!("{role}: {error}");
        exit(1);
    }
}

fn value(arguments: &[String], name: &str) -> String {
    let at = arguments.iter().position(|argument| argument == name);
    at.and_then(|at| arguments.get(at + 1))
        .cloned()
        .unwrap_or_default()
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn check(result: libc::c_int) -> std::io::Result<()> {
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn jail(arguments: &[String]) -> Outcome {
    for forbidden in ["--no-seccomp", "--enable-pci", "--daemonize"] {
        assert!(!arguments.iter().any(|argument| argument == forbidden));
    }
    let uid: u32 = value(arguments, "--uid").parse()?;
    let root = format!(
        "{}/firecracker/{}/root",
        value(arguments, "--chroot-base-dir"),
        value(arguments, "--id")
    );
    fs::create_dir_all(&root)?;
    fs::copy(
        value(arguments, "--exec-file"),
        format!("{root}/firecracker"),
    )?;
    chown(format!("{root}/firecracker"), Some(uid), Some(uid))?;
    let network = File::open(value(arguments, "--netns"))?;
    let limit: u64 = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("fsize="))
        .ok_or("no file size limit")?
        .parse()?;
    let limit = libc::rlimit {
        rlim_cur: limit,
        rlim_max: limit,
    };
    // SAFETY: the pointers are to what outlives the calls.
    unsafe {
        check(libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET))?;
        check(libc::setrlimit(libc::RLIMIT_FSIZE, &limit))?;
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(
            std::ptr::null(),
            c("/").as_ptr(),
            std::ptr::null(),
            libc::MS_SLAVE | libc::MS_REC,
            std::ptr::null(),
        ))?;
        check(libc::mount(
            c(&root).as_ptr(),
            c(&root).as_ptr(),
            std::ptr::null(),
            libc::MS_BIND | libc::MS_REC,
            std::ptr::null(),
        ))?;
        std::env::set_current_dir(&root)?;
        check(libc::mkdir(c("old_root").as_ptr(), 0o700))?;
        check(libc::syscall(
            libc::SYS_pivot_root,
            c(".").as_ptr(),
            c("old_root").as_ptr(),
        ) as libc::c_int)?;
        std::env::set_current_dir("/")?;
        check(libc::umount2(c("old_root").as_ptr(), libc::MNT_DETACH))?;
        check(libc::rmdir(c("old_root").as_ptr()))?;
    }
    for folder in ["/", "/dev", "/dev/net", "/run"] {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        chown(folder, Some(uid), Some(uid))?;
    }
    for (path, minor) in [("/dev/net/tun", 200), ("/dev/userfaultfd", 126)] {
        // SAFETY: the path is a string that outlives the call.
        check(unsafe {
            libc::mknod(
                c(path).as_ptr(),
                libc::S_IFCHR | 0o600,
                libc::makedev(10, minor),
            )
        })?;
        chown(path, Some(uid), Some(uid))?;
    }
    fs::write("/firecracker.pid", std::process::id().to_string())?;
    Err(Command::new("/firecracker")
        .uid(uid)
        .gid(uid)
        .args(["--id", &value(arguments, "--id")])
        .exec()
        .into())
}

fn run() -> Outcome {
    let orders = fs::read_to_string("/initramfs")?;
    let mut api = "/run/api.sock".to_string();
    for order in orders.lines() {
        if let Some(other) = order.strip_prefix("api ") {
            api = other.into();
        } else {
            obey(order)?;
        }
    }
    let listener = UnixListener::bind(&api)?;
    for stream in listener.incoming() {
        let stream = stream?;
        let mut answers = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            let answer = match obey(&line) {
                Ok(text) => format!("ok {text}\n"),
                Err(error) => format!("error {error}\n"),
            };
            if answers.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    }
    Ok(String::new())
}

fn obey(order: &str) -> Outcome {
    let words: Vec<&str> = order.split(' ').collect();
    match words.as_slice() {
        ["sleep", ms] => std::thread::sleep(Duration::from_millis(ms.parse()?)),
        ["exit", code] => exit(code.parse()?),
        ["say", text] => println!("{text}"),
        ["write", path, text] => fs::write(path, text)?,
        ["fill", path, bytes] => {
            let piece = vec![7u8; 1 << 20];
            let mut file = File::create(path)?;
            for _ in 0..bytes.parse::<usize>()? >> 20 {
                file.write_all(&piece)?;
            }
        }
        ["sparse", path, bytes] => File::create(path)?.set_len(bytes.parse()?)?,
        ["extend", path, bytes] => File::options()
            .write(true)
            .open(path)?
            .set_len(bytes.parse()?)?,
        ["symlink", to, path] => symlink(to, path)?,
        ["link", to, path] => fs::hard_link(to, path)?,
        ["move", from, to] => fs::rename(from, to)?,
        ["remove", path] => fs::remove_file(path)?,
        ["mkdir", path] => fs::create_dir_all(path)?,
        ["mkfifo", path] => {
            rustix::fs::mkfifoat(
                rustix::fs::CWD,
                *path,
                rustix::fs::Mode::from_raw_mode(0o600),
            )?;
        }
        ["bind", path] => {
            let listener = UnixListener::bind(path)?;
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = (&stream).write_all(b"guest\n");
                }
            });
        }
        // A process that does not go with its parent and wants to hear of nothing.
        ["spawn"] => {
            // SAFETY: the child makes system calls only.
            unsafe {
                if libc::fork() == 0 {
                    libc::setsid();
                    for signal in 1..32 {
                        libc::signal(signal, libc::SIG_IGN);
                    }
                    loop {
                        libc::pause();
                    }
                }
            }
        }
        ["flood"] => {
            std::thread::spawn(|| {
                loop {
                    let _ = std::io::stdout().write_all(&[b'x'; 4096]);
                }
            });
        }
        ["devices"] => {
            let mut found: Vec<String> = Vec::new();
            for folder in ["/dev", "/dev/net"] {
                for entry in fs::read_dir(folder)?.flatten() {
                    if entry.file_type()?.is_char_device() {
                        found.push(entry.file_name().to_string_lossy().into_owned());
                    }
                }
            }
            return Ok(found.join(","));
        }
        ["list", path] => {
            let mut names: Vec<String> = fs::read_dir(path)?
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            return Ok(names.join(","));
        }
        ["network"] => {
            // SAFETY: the descriptor is new; the buffer outlives the call.
            unsafe {
                let names = libc::if_nameindex();
                let mut found = Vec::new();
                let mut at = names;
                while !at.is_null() && (*at).if_index != 0 {
                    found.push(
                        std::ffi::CStr::from_ptr((*at).if_name)
                            .to_string_lossy()
                            .into_owned(),
                    );
                    at = at.add(1);
                }
                libc::if_freenameindex(names);
                return Ok(found.join(","));
            }
        }
        ["read", path] => return Ok(fs::read_to_string(path)?),
        ["allocate", bytes] => {
            let memory = vec![1u8; bytes.parse()?];
            std::mem::forget(memory);
        }
        ["who"] => {
            // SAFETY: these calls take nothing.
            return Ok(unsafe { format!("{} {}", libc::getuid(), libc::getgid()) });
        }
        _ => return Err("no such order".into()),
    }
    Ok(String::new())
}

/// Number of the session keyring, negative when there is none.
fn session_keyring() -> libc::c_long {
    const GET_KEYRING_ID: libc::c_long = 0;
    const SESSION: libc::c_long = -3;
    // SAFETY: this operation takes numbers.
    unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0) }
}

/// Carries bytes between the keeper's descriptor and a socket at `path`, until either ends.
fn work(path: &str) -> Outcome {
    assert_eq!(std::env::var("HPCC_KEEPER_FD").as_deref(), Ok("3"));
    fs::write(format!("{path}.keyring"), session_keyring().to_string())?;
    // SAFETY: the keeper started this program with its socket as descriptor 3, and nothing else here uses it.
    let keeper = unsafe { UnixStream::from_raw_fd(3) };
    assert!(Path::new("/proc/self/fd/3").exists());
    let listener = UnixListener::bind(path)?;
    let (mut test, _) = listener.accept()?;
    let (mut from_keeper, mut to_test) = (keeper.try_clone()?, test.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_keeper, &mut to_test);
        exit(5);
    });
    let mut to_keeper = keeper;
    let mut piece = [0u8; 4096];
    loop {
        let read = test.read(&mut piece)?;
        if read == 0 {
            return Ok(String::new());
        }
        to_keeper.write_all(&piece[..read])?;
    }
}
