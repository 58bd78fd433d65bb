//! What of the host decides whether a snapshot may be used on it.
use std::fs;

#[derive(Clone, Debug)]
pub struct Host {
    pub cpu_model: String,
    pub microcode: String,
    pub kernel: String,
}

impl Host {
    pub fn read() -> Host {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let uname = rustix::system::uname();
        Host {
            cpu_model: first(&cpuinfo, "model name"),
            microcode: first(&cpuinfo, "microcode"),
            kernel: format!(
                "{} {}",
                uname.release().to_string_lossy(),
                uname.version().to_string_lossy()
            ),
        }
    }
}

/// A field of the first processor; "unknown" where the kernel does not tell.
fn first(cpuinfo: &str, field: &str) -> String {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == field)
        .map_or("unknown".into(), |(_, value)| value.trim().into())
}
