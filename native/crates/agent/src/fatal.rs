//! The end of the agent. In a guest a fault that it cannot repair ends the VM, for a half-working agent must not go on.
use std::fmt::Display;
use std::sync::atomic::{AtomicU8, Ordering};

/// What this process is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A process of a test or of the harness: ends alone.
    Plain = 0,
    /// PID 1 of a guest: ends the VM.
    Guest = 1,
    /// A session's process: ends alone, and PID 1 clears away what it leaves.
    Session = 3,
    /// A sandbox's process: ends alone and says nothing, since its stderr may be the tenant's.
    Sandbox = 2,
}

static ROLE: AtomicU8 = AtomicU8::new(Role::Plain as u8);

/// Sets what this process is, and makes a panic end it the same way as `die`.
pub fn set_role(role: Role) {
    ROLE.store(role as u8, Ordering::Relaxed);
    if matches!(role, Role::Guest | Role::Session) {
        std::panic::set_hook(Box::new(|panic| die(panic)));
    }
}

/// Prints one line to the console and ends the process, in a guest the VM.
pub fn die(reason: impl Display) -> ! {
    let role = ROLE.load(Ordering::Relaxed);
    if role != Role::Sandbox as u8 {
        say(format_args!("fatal: {reason}"));
    }
    if role == Role::Guest as u8 {
        // Firecracker ends at a reset, QEMU with -no-reboot too; neither needs ACPI for it.
        let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    }
    std::process::exit(70)
}

/// One line on the console. Never a tenant's bytes.
pub fn say(line: impl Display) {
    let text: String = format!("hpcc-agent: {line}")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("{text}\n").as_bytes());
}
