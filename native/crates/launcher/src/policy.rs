//! What the user's own settings say of compilers when the daemon cannot be asked: which may run, and whether an image is bound to all
//! projects. No TOML parser: a key counts that stands on a line of its own before the first table, as everybody writes it. What is
//! not understood is as if it were not there, and then no compiler of the host runs.
//! UNTRUSTED: nobody; the files are the user's own and the machine's.

use crate::environment::{Environment, join};
use crate::sys;
use hpcc_frames::Fallback;

const MACHINE_FILE: &[u8] = b"/etc/hpcc/config.toml";
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub struct Settings {
    /// Strongest first.
    files: Vec<Vec<u8>>,
    fallback: Option<Vec<u8>>,
    has_image: bool,
}

impl Settings {
    /// Reads the files.
    pub fn of(environment: &Environment) -> Settings {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let paths = [user_file(environment), Some(MACHINE_FILE.to_vec())];
        Settings {
            files: paths
                .iter()
                .flatten()
                .filter_map(|path| sys::read_file(path, FILE_BYTES_MAX).ok())
                .collect(),
            fallback: set("HPCC_FALLBACK").map(<[u8]>::to_vec),
            has_image: set("HPCC_IMAGE").is_some(),
        }
    }

    /// What may run, if the settings say so.
    pub fn fallback(&self) -> Option<Fallback> {
        match &self.fallback {
            Some(name) => Fallback::parse(name),
            None => self
                .files
                .iter()
                .find_map(|text| Fallback::parse(unquoted(value_of(text, b"fallback")?)?)),
        }
    }

    /// Whether every project is bound to an image.
    pub fn name_image(&self) -> bool {
        self.has_image
            || self
                .files
                .iter()
                .any(|text| value_of(text, b"image").is_some())
    }
}

fn user_file(environment: &Environment) -> Option<Vec<u8>> {
    let absolute = |name: &str| {
        environment
            .get(name)
            .filter(|value| value.first() == Some(&b'/'))
    };
    if let Some(file) = absolute("HPCC_CONFIG") {
        return Some(file.to_vec());
    }
    if let Some(folder) = absolute("XDG_CONFIG_HOME") {
        return Some(join(folder, b"hpcc/config.toml"));
    }
    let home = absolute("HOME").map(<[u8]>::to_vec);
    home.or_else(|| environment.home())
        .map(|home| join(&home, b".config/hpcc/config.toml"))
}

/// What stands behind a key of the top level.
fn value_of<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .take_while(|line| !line.starts_with(b"["))
        .find_map(|line| {
            let rest = line.strip_prefix(key)?.trim_ascii_start();
            Some(rest.strip_prefix(b"=")?.trim_ascii())
        })
}

/// A string without escapes; a comment may follow.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let quote = value.first().filter(|byte| b"\"'".contains(byte))?;
    let mut parts = value.get(1..)?.splitn(2, |byte| byte == quote);
    let text = parts.next()?;
    let rest = parts.next()?.trim_ascii();
    (rest.is_empty() || rest.starts_with(b"#")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(files: &[&str], fallback: Option<&str>) -> Settings {
        Settings {
            files: files.iter().map(|text| text.as_bytes().to_vec()).collect(),
            fallback: fallback.map(|name| name.as_bytes().to_vec()),
            has_image: false,
        }
    }

    #[test]
    fn a_policy_is_believed_only_where_it_is_plain() {
        for (files, variable, expected) in [
            (vec![], None, None),
            (vec!["fallback = \"host\"\n"], None, Some(Fallback::Host)),
            (
                vec!["remote = true\n\tfallback='none' # why\r\n"],
                None,
                Some(Fallback::None),
            ),
            (
                vec!["remote = true\n", "fallback = \"host\""],
                None,
                Some(Fallback::Host),
            ),
            (
                vec!["fallback = \"image\"", "fallback = \"host\""],
                None,
                Some(Fallback::Image),
            ),
            (
                vec!["fallback = \"host\""],
                Some("none"),
                Some(Fallback::None),
            ),
            (vec!["fallback = \"host\""], Some("hots"), None),
            (vec!["[x]\nfallback = \"host\""], None, None),
            (vec!["# fallback = \"host\""], None, None),
            (vec!["fallback_x = \"host\""], None, None),
            (vec!["fallback = \"host\" \"none\""], None, None),
            (vec!["fallback = host"], None, None),
            (vec!["fallback = \"ho"], None, None),
        ] {
            assert_eq!(settings(&files, variable).fallback(), expected, "{files:?}");
        }
        assert!(settings(&["image = \"sha256:00\""], None).name_image());
        assert!(!settings(&["images.allowed = []\n[images]\nimage = 1"], None).name_image());
    }
}
