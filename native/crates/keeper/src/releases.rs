//! The one table of Firecracker's releases, which the doctor reads too: `firecracker-releases.json` beside this crate.
use serde::Deserialize;

use crate::digest::Digest;

const TABLE: &str = include_str!("../firecracker-releases.json");

#[derive(Deserialize)]
struct Table {
    releases: Vec<Release>,
}

#[derive(Deserialize)]
struct Release {
    program: String,
    /// 64 hex digits.
    sha256: String,
}

/// Whether these are the bytes of a published `firecracker` or `jailer`.
pub fn is_known(program: &str, digest: &Digest) -> bool {
    let hex = digest.file_name();
    serde_json::from_str::<Table>(TABLE).is_ok_and(|table| {
        table
            .releases
            .iter()
            .any(|release| release.program == program && release.sha256 == hex)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::VERSION_MIN;

    #[test]
    fn each_program_of_the_table_is_known_as_that_and_as_nothing_else() {
        let table: serde_json::Value = serde_json::from_str(TABLE).unwrap();
        let releases = table["releases"].as_array().unwrap();
        assert!(releases.len() >= 2);
        for release in releases {
            let digest =
                Digest::parse(&format!("sha256:{}", release["sha256"].as_str().unwrap())).unwrap();
            for program in ["firecracker", "jailer"] {
                assert_eq!(
                    is_known(program, &digest),
                    release["program"] == program,
                    "{program}"
                );
            }
        }
        assert!(!is_known("firecracker", &Digest([0; 32])));
    }

    #[test]
    fn the_oldest_version_is_the_tables() {
        let table: serde_json::Value = serde_json::from_str(TABLE).unwrap();
        let min = &table["version_min"];
        let part = |name: &str| u32::try_from(min[name].as_u64().unwrap()).unwrap();
        assert_eq!(
            (part("major"), part("minor"), part("patch")),
            (VERSION_MIN.0, VERSION_MIN.1, VERSION_MIN.2)
        );
    }
}
