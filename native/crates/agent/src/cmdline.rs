//! The kernel command line, through which the VMM configures the agent.

/// Vsock port when the command line names none.
pub const DEFAULT_PORT: u32 = 1024;

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// Vsock port to listen on, `hpcc.port=`.
    pub port: u32,
    /// Block device of the toolchain, `hpcc.rootfs=`.
    pub rootfs: Option<String>,
}

/// Reads the agent's words of a command line; the last of a kind counts, as in the kernel.
pub fn parse(line: &str) -> Result<Cmdline, String> {
    let mut parsed = Cmdline {
        port: DEFAULT_PORT,
        rootfs: None,
    };
    for word in line.split_ascii_whitespace() {
        if let Some(port) = word.strip_prefix("hpcc.port=") {
            parsed.port = port
                .parse()
                .map_err(|_| format!("hpcc.port is no number: {port}"))?;
        } else if let Some(device) = word.strip_prefix("hpcc.rootfs=") {
            if !device.starts_with("/dev/") || device.contains("..") {
                return Err(format!("hpcc.rootfs is no device: {device}"));
            }
            parsed.rootfs = Some(device.to_owned());
        } else if word.starts_with("hpcc.") {
            return Err(format!("unknown word on the command line: {word}"));
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_words() {
        let line = "console=ttyS0 reboot=k hpcc.rootfs=/dev/vda hpcc.port=5 panic=1\n";
        assert_eq!(
            parse(line),
            Ok(Cmdline {
                port: 5,
                rootfs: Some("/dev/vda".into())
            })
        );
        assert_eq!(
            parse(""),
            Ok(Cmdline {
                port: DEFAULT_PORT,
                rootfs: None
            })
        );
    }

    #[test]
    fn refuses_nonsense() {
        for line in [
            "hpcc.port=x",
            "hpcc.port=-1",
            "hpcc.rootfs=vda",
            "hpcc.rootfs=/dev/../etc",
            "hpcc.prot=1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
