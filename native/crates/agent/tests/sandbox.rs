//! The agent outside a VM: real compiles, and programs that try what they must not.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use hpcc_agent::proto::ExecutionErrorCode as Code;
use support::{Harness, Job, bytes};

const SOURCE: &[u8] = b"#include \"part.h\"\nint main(void) { return PART; }\n";

fn compile() -> Job {
    Job::new(&[
        "/usr/bin/gcc",
        "-O2",
        "-g",
        "-c",
        "a.c",
        "-o",
        "/hpcc/out/a.o",
    ])
    .input("/hpcc/project/a.c", SOURCE)
    .input("/hpcc/project/part.h", b"#define PART 3\n")
    .output("/hpcc/out/a.o")
}

#[tokio::test(flavor = "current_thread")]
async fn compiles_with_a_real_gcc() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    assert_eq!(session.ready.nonce, [7; 32].as_slice());
    assert_eq!(session.ready.protocol_version, 4);
    let first = session.run(compile()).await.ok();
    assert_eq!(&first.stream(2)[..4], b"\x7fELF");
    assert!(first.exited().outputs[0].present && !first.exited().outputs[0].executable);
    assert!(
        first.exited().wall_us > 0
            && first.exited().cpu_us > 0
            && first.exited().memory_peak_bytes > 0
    );
    let second = session.run(compile()).await.ok();
    assert_eq!(first.stream(2), second.stream(2));
    let failing = session
        .run(compile().edit(|e| e.argv.push(bytes("-Dmain=+"))))
        .await;
    assert_eq!(
        (
            failing.exited().exit_code,
            failing.exited().outputs[0].present
        ),
        (1, false)
    );
    assert!(
        failing.stderr().contains("error: expected"),
        "{}",
        failing.stderr()
    );
}

#[tokio::test(flavor = "current_thread")]
async fn names_and_arguments_are_bytes() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let (folder, source, object) = (
        b"/hpcc/project/\xff\xfe",
        b"/hpcc/project/\xff\xfe/\xe4 '\n.c",
        b"/hpcc/out/\x80.o",
    );
    let job = Job::new(&["/usr/bin/gcc", "-c"])
        .input(source, b"int x;\n")
        .output(object)
        .edit(|e| {
            e.argv.extend([bytes(source), bytes("-o"), bytes(object)]);
            e.cwd = bytes(folder);
        });
    assert_eq!(&session.run(job).await.ok().stream(2)[..4], b"\x7fELF");

    let job = Job::probe(&["arguments"]).edit(|e| {
        e.argv.push(bytes(b"\xff\n\x01"));
        e.argv.push(bytes(""));
        e.environment = vec![bytes(b"A=\xfe")];
    });
    assert_eq!(
        session.run(job).await.ok().stream(0),
        b"/probe/probe\narguments\n\xff\n\x01\n\nA=\xfe\n"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn exit_codes_and_signals_come_back() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    for code in ["0", "1", "77", "255"] {
        let outcome = session.run(Job::probe(&["exit", code])).await;
        assert_eq!(
            (
                outcome.exited().exit_code.to_string(),
                outcome.exited().signal
            ),
            (code.to_owned(), 0)
        );
    }
    for signal in [
        libc::SIGTERM,
        libc::SIGSEGV,
        libc::SIGKILL,
        libc::SIGPIPE,
        libc::SIGINT,
    ] {
        let outcome = session
            .run(Job::probe(&["raise", &signal.to_string()]))
            .await;
        assert_eq!(
            (outcome.exited().exit_code, outcome.exited().signal),
            (0, signal as u32)
        );
    }
    assert_eq!(
        session.run(Job::probe(&["abort"])).await.exited().signal,
        libc::SIGABRT as u32
    );
    for program in ["/usr/bin/absent", "/absent/x", "/usr", "/top-level-file"] {
        assert_eq!(
            session.run(Job::new(&[program])).await.error(),
            Code::NoProgram,
            "{program}"
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn inputs_are_as_declared() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let big: Vec<u8> = (0..3_000_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_be_bytes())
        .collect();
    let job = Job::probe(&[
        "stat",
        "/hpcc/project/a/b/c",
        "/hpcc/big",
        "/hpcc/empty",
        "/hpcc/project/a",
        "/hpcc/out/deep",
    ])
    .input("/hpcc/project/a/b/c", b"x")
    .input("/hpcc/empty", b"")
    .input("/hpcc/big", &big)
    .output("/hpcc/big")
    .output("/hpcc/out/deep/absent")
    .edit(|e| e.inputs[0].mode = 0o755);
    let outcome = session.run(job).await.ok();
    let seen = outcome.stdout();
    let files = "/hpcc/project/a/b/c 100755 1 1.000000000 own=1\n/hpcc/big 100644 12000000 3.000000000 own=1\n\
        /hpcc/empty 100644 0 2.000000000 own=1\n";
    assert!(seen.starts_with(files), "{seen}");
    assert!(
        seen.contains("\n/hpcc/project/a 40755 ") && seen.contains("\n/hpcc/out/deep 40755 "),
        "{seen}"
    );
    assert!(outcome.stream(2) == big);
    assert_eq!(
        outcome
            .exited()
            .outputs
            .iter()
            .map(|o| o.present)
            .collect::<Vec<_>>(),
        [true, false]
    );

    for damage in [|f: &mut Vec<u8>| f[5] ^= 0xff, |f: &mut Vec<u8>| f.fill(0)] {
        let mut job = Job::probe(&["exit", "0"]).input("/hpcc/a", &big[..1000]);
        damage(&mut job.frames[0]);
        assert!(matches!(
            session.run(job).await,
            support::Outcome::Error(Code::Invalid, _)
        ));
    }
    let job = Job::probe(&["exit", "0"])
        .input("/hpcc/a", b"12345")
        .edit(|e| e.inputs[0].size = 4);
    assert_eq!(session.run(job).await.error(), Code::Invalid);
}

#[tokio::test(flavor = "current_thread")]
async fn hostile_requests_are_refused() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let jobs = [
        Job::probe(&["exit", "0"]).input("/usr/bin/gcc", b"x"),
        Job::probe(&["exit", "0"]).input("/hpcc/../etc/x", b"x"),
        Job::probe(&["exit", "0"])
            .input("/hpcc/x", b"x")
            .input("/hpcc/x/y", b"x"),
        Job::probe(&["exit", "0"]).output("/etc/passwd"),
        Job::probe(&["exit", "0"]).limit(|l| l.pids = 0),
        Job::probe(&["exit", "0"]).edit(|e| e.cwd = bytes("/usr/absent")),
        Job::probe(&["exit", "0"]).edit(|e| e.cwd = bytes("/usr/lib")),
        Job::probe(&["exit", "0"]).edit(|e| e.cwd = bytes("/")),
        Job::probe(&["exit", "0"])
            .link("/hpcc/x", "/tmp")
            .input("/hpcc/x/y", b"x"),
        Job::probe(&["exit", "0"])
            .link("/hpcc/x", "/tmp")
            .output("/hpcc/x/y"),
        Job::probe(&["exit", "0"])
            .link("/hpcc/x", "/tmp")
            .edit(|e| e.cwd = bytes("/hpcc/x")),
        Job::probe(&["exit", "0"]).link("/etc/x", "/tmp"),
        Job::probe(&["exit", "0"]).link("/hpcc/out", "/tmp"),
        Job::probe(&["exit", "0"]).folder("/run/x"),
        Job::probe(&["exit", "0"])
            .folder("/hpcc/x")
            .folder("/hpcc/x/y"),
        Job::probe(&["exit", "0"]).edit(|e| e.limits = None),
    ];
    for (row, mut job) in jobs.into_iter().enumerate() {
        job.frames.clear();
        assert_eq!(session.run(job).await.error(), Code::Invalid, "row {row}");
    }
    session.run(compile()).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn the_working_folder_is_made() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    for cwd in [
        "/hpcc/project/x/y",
        "/hpcc",
        "/tmp/a",
        "/new/folder",
        "/new",
        "/home/ann/x",
        "/var",
    ] {
        let outcome = session
            .run(Job::probe(&["self"]).edit(|e| e.cwd = bytes(cwd)))
            .await
            .ok();
        assert!(
            outcome
                .stdout()
                .contains(&format!("\ncwd {cwd} umask 22\n")),
            "{cwd}: {}",
            outcome.stdout()
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn links_and_folders_are_as_declared() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let job = Job::probe(&["places"])
        .input("/srv/lib/v2/a.h", b"12345")
        .link("/home/ann/x/include", "../../../srv//lib/./v2/")
        .link("/home/ann/x/absolute", "/srv/lib/v2/a.h")
        .link("/home/ann/x/dangling", b"\xff nowhere")
        .link("/home/ann/x/through", "include/a.h")
        .folder("/home/ann/x/build/empty")
        .folder("/work")
        .output("/home/ann/x/build/deep/a.o")
        .edit(|e| {
            e.argv.extend(
                [
                    "/home/ann/x/include",
                    "/home/ann/x/absolute",
                    "/home/ann/x/through",
                    "/home/ann/x/build/empty",
                    "/home/ann/x/build/deep",
                    "/work",
                ]
                .map(bytes),
            );
            e.argv.push(bytes("/home/ann/x/dangling"));
            e.cwd = bytes("/home/ann/x");
        });
    let outcome = session.run(job).await.ok();
    let seen = outcome.stream(0);
    let expected: &[u8] = b"/home/ann/x/include 120777 ../../../srv//lib/./v2/ -> 40755\n\
        /home/ann/x/absolute 120777 /srv/lib/v2/a.h -> 100644\n\
        /home/ann/x/through 120777 include/a.h -> 100644\n\
        /home/ann/x/build/empty 40755\n\
        /home/ann/x/build/deep 40755\n\
        /work 40755\n\
        /home/ann/x/dangling 120777 \xff nowhere -> ENOENT\n";
    assert_eq!(seen, expected, "{}", outcome.stdout());
}

/// The toolchain in the test has a /var.
#[tokio::test(flavor = "current_thread")]
async fn a_top_level_name_is_the_jobs_or_the_toolchains() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let listing =
        async |session: &mut support::Session, job: Job| session.run(job).await.ok().stdout();
    let var = || Job::probe(&["ls", "/var"]);
    assert_eq!(listing(&mut session, var()).await, "/var/of-the-image\n");
    let mine = var().input("/var/lib/y/a.c", b"x");
    assert_eq!(listing(&mut session, mine).await, "/var/lib\n");
    for mine in [
        var().link("/var/lib", "/etc"),
        var().folder("/var/lib"),
        var().output("/var/lib/a.o"),
        var().edit(|e| e.cwd = bytes("/var/lib")),
    ] {
        assert_eq!(listing(&mut session, mine).await, "/var/lib\n");
    }
    assert_eq!(listing(&mut session, var()).await, "/var/of-the-image\n");
    // A compiler below such a name is hidden with it.
    let hidden = Job::probe(&["exit", "0"]).input("/probe/a.c", b"x");
    assert_eq!(session.run(hidden).await.error(), Code::NoProgram);
}

#[tokio::test(flavor = "current_thread")]
async fn equal_files_under_pragma_once_are_two() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let header = b"#pragma once\nint NAME;\n";
    let source = b"#define NAME one\n#include \"a/h.h\"\n#undef NAME\n#define NAME two\n#include \"b/h.h\"\n\
        int main(void) { return one + two; }\n";
    let job = Job::new(&["/usr/bin/gcc", "-c", "a.c", "-o", "/hpcc/out/a.o"])
        .input("/hpcc/project/a/h.h", header)
        .input("/hpcc/project/b/h.h", header)
        .input("/hpcc/project/a.c", source)
        .output("/hpcc/out/a.o");
    session.run(job).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn a_link_leads_nowhere_but_the_sandbox() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    // The kernel follows a link from the root of the process that follows it. When the program runs, that is the sandbox's;
    // before and after that the agent follows none, so that neither a file nor an output ever goes through one.
    let climb = "../".repeat(100);
    let targets = [
        ("/hpcc/top-level-file", "neither is there"),
        (&climb, "the root has nothing above it"),
        ("/proc/1/root", "a process of another user"),
        ("/proc/1/cwd/etc", "a process of another user"),
        ("/proc/sys/kernel/core_pattern", "proc holds processes only"),
        ("/sandbox/x", "a folder of the agent's root"),
        ("/toolchain/usr", "a folder of the agent's root"),
        ("/cgroup/cgroup.procs", "a folder of the agent's root"),
    ];
    for (target, why) in targets {
        let job = Job::probe(&["places", "/hpcc/project/x"]).link("/hpcc/project/x", target);
        let seen = session.run(job).await.ok().stdout();
        let end = if target == climb {
            " -> 40755\n"
        } else {
            " -> ENOENT\n"
        };
        assert!(seen.ends_with(end), "{target}: {why}: {seen}");
    }
    let above = Job::probe(&["ls", "/hpcc/project/x/hpcc"]).link("/hpcc/project/x", &climb);
    let seen = session.run(above).await.ok().stdout();
    assert!(
        !seen.contains("neighbour"),
        "the toolchain's /hpcc is not the sandbox's: {seen}"
    );

    // What is read through a link is what the program could read itself: here its own memory, its own program, no end of zeros.
    let read = |target: &str| {
        Job::new(&["/usr/bin/cp", "/hpcc/project/x", "/hpcc/out/x"])
            .link("/hpcc/project/x", target)
            .output("/hpcc/out/x")
            .limit(|l| l.output_bytes = 4 << 20)
    };
    let memory = session.run(read("/proc/self/mem")).await;
    assert!(memory.stderr().contains("Input/output error"));
    assert!(memory.exited().exit_code == 1 && memory.stream(2).is_empty());
    let program = session.run(read("/proc/self/exe")).await.ok();
    let cp = session.run(read("/usr/bin/cp")).await.ok();
    assert!(program.stream(2) == cp.stream(2) && cp.stream(2).starts_with(b"\x7fELF"));
    let zeros = session.run(read("/dev/zero")).await;
    assert_eq!(zeros.error(), Code::OutputLimit);
    for target in ["/proc/self/mem", "/etc/passwd", "../../usr/bin/cp"] {
        let job = Job::probe(&["exit", "0"])
            .link("/hpcc/out/x", target)
            .output("/hpcc/out/x");
        assert_eq!(session.run(job).await.error(), Code::Invalid);
    }
    // What is written through a link lands where the program may write itself.
    for (target, left) in [
        ("/usr/bin/evil", "EROFS"),
        ("/etc/evil", "EROFS"),
        ("/evil", "EACCES"),
        ("/proc/sys/kernel/hostname", "ENOENT"),
        ("/tmp/good", "ok"),
    ] {
        let job = Job::probe(&["write", "/hpcc/project/x"]).link("/hpcc/project/x", target);
        let seen = session.run(job).await.ok().stdout();
        assert_eq!(seen, format!("/hpcc/project/x {left}\n"), "{target}");
    }
    let next = session.run(Job::probe(&["self"])).await.ok();
    assert!(next.stdout().contains("host hpcc "));
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_has_no_rights_and_no_descriptors() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let first = session.run(Job::probe(&["self"])).await.ok().stdout();
    assert!(first.contains("host hpcc pid 2 "), "{first}");
    assert!(first.contains(" groups 0 sid 1\n"), "{first}");
    for set in [
        "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigBlk", "SigIgn",
    ] {
        assert!(
            first.contains(&format!("{set}:\t0000000000000000\n")),
            "{set}: {first}"
        );
    }
    assert!(
        first.contains("NoNewPrivs:\t1\n") && first.contains("Seccomp:\t2\n"),
        "{first}"
    );
    assert_eq!(
        first.matches("\nfd ").count(),
        4,
        "0, 1, 2 and the probe's own: {first}"
    );
    let uid = |text: &str| {
        text.split_once("uid ")
            .unwrap()
            .1
            .split(' ')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    let second = session.run(Job::probe(&["self"])).await.ok().stdout();
    assert!(uid(&first) > 999_999 && uid(&first) != uid(&second));
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_sees_the_toolchain_and_its_inputs_alone() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let job = Job::probe(&[
        "ls",
        "/",
        "/dev",
        "/hpcc",
        "/hpcc/project",
        "/tmp",
        "/sys",
        "/empty",
        "/proc",
    ])
    .input("/hpcc/project/a.c", b"x");
    let listing = session.run(job).await.ok().stdout();
    let mut seen: Vec<&str> = listing.lines().collect();
    seen.sort_unstable();
    let expected = "//bin //dev //empty //etc //hpcc //lib //lib64 //probe //proc //tmp //top-level-file //usr //var \
        /dev/fd /dev/full /dev/null /dev/random /dev/stderr /dev/stdin /dev/stdout /dev/urandom /dev/zero \
        /hpcc/out /hpcc/project /hpcc/project/a.c /hpcc/tmp /proc/2 /proc/self /proc/thread-self";
    let mut expected: Vec<&str> = expected.split_ascii_whitespace().collect();
    expected.push("/sys: ENOENT");
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_but_its_own_folders_can_be_written() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let answers = session.run(Job::probe(&["escape"])).await.ok().stdout();
    let expected = "/usr/bin/evil EROFS\n/etc/evil EROFS\n/evil EACCES\n/dev/evil EROFS\n/probe/evil EROFS\n\
        /proc/sys/kernel/hostname ENOENT\n/hpcc/project/ok ok\n/tmp/ok ok\n/proc/1/root ENOENT\n/proc/1/exe ENOENT\n";
    assert_eq!(answers, expected);
    let again = session
        .run(Job::probe(&["ls", "/tmp", "/hpcc/project"]))
        .await
        .ok()
        .stdout();
    assert_eq!(again, "");
}

#[tokio::test(flavor = "current_thread")]
async fn no_input_can_be_executed() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let job = Job::probe(&["run", "/hpcc/project/evil"])
        .input("/hpcc/project/evil", b"#!/bin/sh\necho evil\n")
        .edit(|e| e.inputs[0].mode = 0o755);
    assert_eq!(session.run(job).await.ok().stdout(), "exec EACCES\n");
}

#[tokio::test(flavor = "current_thread")]
async fn sockets_but_unix_are_refused() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let answers = session.run(Job::probe(&["sockets"])).await.ok().stdout();
    let mut answers = answers.lines();
    assert_eq!(answers.next(), Some("unix ok"));
    assert_eq!(answers.clone().count(), 8);
    assert!(answers.all(|answer| answer.ends_with(" EAFNOSUPPORT")));
}

#[tokio::test(flavor = "current_thread")]
async fn dangerous_calls_are_refused() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let answers = session.run(Job::probe(&["calls"])).await.ok().stdout();
    assert_eq!(answers.lines().count(), 17);
    for answer in answers.lines() {
        let refusal = if answer.starts_with("clone3") {
            " ENOSYS"
        } else {
            " EPERM"
        };
        assert!(answer.ends_with(refusal), "{answer}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_terminal_has_its_width_and_changes_no_byte() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let piped = session.run(Job::probe(&["terminal"])).await.ok();
    assert_eq!(piped.stdout(), "stdin 0 stdout 0 stderr 0 columns -1 0\n");
    for length in [0, 300_000] {
        let job = Job::probe(&["terminal", &length.to_string()]).edit(|e| e.terminal_columns = 132);
        let outcome = session.run(job).await.ok();
        assert_eq!(
            outcome.stdout(),
            "stdin 0 stdout 0 stderr 1 columns 0 132\n"
        );
        assert_eq!(
            outcome.stderr(),
            "e".repeat(length) + "one\n\ttwo\u{4}\u{3} three\n"
        );
    }
    let colours = Job::new(&["/usr/bin/gcc", "-c", "a.c"])
        .input("/hpcc/project/a.c", b"int x = y;\n")
        .edit(|e| {
            e.environment.push(bytes("TERM=xterm-256color"));
            e.terminal_columns = 80;
        });
    assert!(session.run(colours).await.stderr().contains("\x1b["));
    let reopened = session.run(Job::probe(&["reopen"])).await.ok();
    assert_eq!(
        (reopened.stdout().as_str(), reopened.stderr().as_str()),
        ("out\n", "err\n")
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_planted_process_does_not_outlive_its_execution() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    session
        .run(Job::probe(&["plant", "hpcc-outlives"]))
        .await
        .ok();
    assert_eq!(support::processes_named("hpcc-outlives"), 0);
    let next = session
        .run(Job::probe(&["ls", "/proc"]))
        .await
        .ok()
        .stdout();
    assert_eq!(next, "/proc/self\n/proc/thread-self\n/proc/2\n");
}

#[tokio::test(flavor = "current_thread")]
async fn links_and_special_files_are_no_outputs() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    for target in [
        "/etc/passwd",
        "/hpcc/project/a.c",
        "/proc/self/environ",
        "/top-level-file",
        "/dev/zero",
    ] {
        let job = Job::probe(&["link", target, "/hpcc/out/x"])
            .input("/hpcc/project/a.c", b"x")
            .output("/hpcc/out/x");
        let outcome = session.run(job).await.ok();
        assert_eq!(
            (
                outcome.stdout().as_str(),
                outcome.exited().outputs[0].present
            ),
            ("link ok\n", false),
            "{target}"
        );
    }
    let job =
        Job::probe(&["link", "/hpcc/project", "/hpcc/tmp/x"]).input("/hpcc/project/a.c", b"x");
    let outcome = session
        .run(job.edit(|e| e.outputs = vec![bytes("/hpcc/tmp/x")]))
        .await
        .ok();
    assert!(!outcome.exited().outputs[0].present);
    let outcome = session
        .run(Job::probe(&["fifo", "/hpcc/out/f"]).output("/hpcc/out/f"))
        .await
        .ok();
    assert_eq!(
        (
            outcome.stdout().as_str(),
            outcome.exited().outputs[0].present
        ),
        ("fifo ok\n", false)
    );
}
