//! What PID 1 does after each session: kills all that ran, waits until the kernel has let go of what it held, removes what
//! outlives processes, and counts what is left. The count is taken anew from the kernel, not from what was removed.
mod ground;
mod leftovers;

use std::time::{Duration, Instant};

pub use self::ground::Ground;
use crate::cgroup::Groups;
use crate::limits::CLEARING_DEADLINE;
use crate::pid1::{self, Gate};
use crate::proto::ScrubReport;
use crate::sys;

/// Pause between two looks at what has no signal.
const PAUSE: Duration = Duration::from_millis(2);

/// Clears away everything that is not of the boot. Connections that come in meanwhile are closed.
pub fn clear(ground: &Ground, groups: &Groups, gate: &Gate, sequence: u64) -> ScrubReport {
    let started = Instant::now();
    let _ = groups.kill_all();
    let deadline = started + CLEARING_DEADLINE;
    sys::kill_all_others();
    while !pid1::reap() && Instant::now() < deadline {
        gate.wait_refusing(Some(PAUSE));
        sys::kill_all_others();
    }
    let groups_gone = until(Instant::now() + CLEARING_DEADLINE, gate, || {
        groups.remove_all()
    });
    ground.remove_leftovers();
    let let_go = ground.is_whole_guest().then(|| {
        let deadline = Instant::now() + CLEARING_DEADLINE;
        let namespaces = until(deadline, gate, || ground.namespaces_are_gone());
        let memory = until(deadline, gate, || ground.memory_is_back());
        ground::release_pages();
        [namespaces, memory]
            .into_iter()
            .filter(|gone| !gone)
            .count()
    });
    let left = ground.count_leftovers();
    ScrubReport {
        processes_left: saturate(left.processes),
        mounts_left: saturate(left.mounts + let_go.unwrap_or(0) + usize::from(!groups_gone)),
        ipc_left: saturate(left.ipc),
        duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        sequence,
    }
}

/// Tries until it is done; false when the deadline passes first.
fn until(deadline: Instant, gate: &Gate, mut done: impl FnMut() -> bool) -> bool {
    loop {
        if done() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        gate.wait_refusing(Some(PAUSE));
    }
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
