//! What of the caller's environment cannot enter an image's namespace as it is. The caller's dynamic loader may be told to load
//! files which the image lacks (fakeroot, Bear, pseudo): there every program would complain of them. And a script of the image
//! that calls a compiler by its name may find a launcher on PATH again, which must not seek the image a second time.

use crate::environment::{Environment, join};
use crate::invocation::WRAPPED_VARIABLE;

/// Where a loader looks for a library by its name alone, besides the folders of its machine.
const LIBRARY_FOLDERS: [&[u8]; 5] = [
    b"/lib",
    b"/usr/lib",
    b"/lib64",
    b"/usr/lib64",
    b"/usr/local/lib",
];
const SEARCH_VARIABLE: &str = "LD_LIBRARY_PATH";
/// Variables that name libraries, and what stands between the names.
const LIBRARY_VARIABLES: [(&str, &[u8]); 2] = [("LD_PRELOAD", b" :"), ("LD_AUDIT", b":")];

/// The environment for a program of an image. `folder` is where it runs; `has` tells whether the image's namespace has a path.
pub fn for_image(entries: &[Vec<u8>], folder: &[u8], has: impl Fn(&[u8]) -> bool) -> Environment {
    let at = |name: &[u8]| match name.first() {
        Some(b'/') => name.to_vec(),
        _ => join(folder, name),
    };
    let is_there = |name: &[u8]| !name.is_empty() && has(&at(name));
    let searched = kept(entries, SEARCH_VARIABLE, b":;", &is_there);
    let folders = searched
        .get(SEARCH_VARIABLE)
        .unwrap_or_default()
        .split(|byte| b":;".contains(byte))
        .filter(|name| !name.is_empty())
        .map(at)
        .chain(LIBRARY_FOLDERS.iter().map(|path| path.to_vec()))
        .chain(
            ["/lib", "/usr/lib"]
                .map(|path| format!("{path}/{}-linux-gnu", std::env::consts::ARCH).into_bytes()),
        )
        .collect::<Vec<_>>();
    let is_library = |name: &[u8]| {
        !name.is_empty()
            && if name.contains(&b'/') {
                is_there(name)
            } else {
                folders.iter().any(|folder| has(&join(folder, name)))
            }
    };
    let mut inside = searched;
    for (variable, separators) in LIBRARY_VARIABLES {
        inside = kept(&inside.entries, variable, separators, &is_library);
    }
    if inside.get(WRAPPED_VARIABLE).is_none() {
        inside.entries = inside.with(WRAPPED_VARIABLE, b"");
    }
    inside
}

/// The environment with those items of a variable's list that are wanted; without the variable when none is.
fn kept(
    given: &[Vec<u8>],
    variable: &str,
    separators: &[u8],
    is_wanted: &dyn Fn(&[u8]) -> bool,
) -> Environment {
    let value_of = |entry: &[u8]| -> Option<Vec<u8>> {
        Some(
            entry
                .strip_prefix(variable.as_bytes())?
                .strip_prefix(b"=")?
                .to_vec(),
        )
    };
    let mut entries = Vec::with_capacity(given.len() + 1);
    for entry in given {
        let Some(value) = value_of(entry) else {
            entries.push(entry.clone());
            continue;
        };
        let items = value
            .split(|byte| separators.contains(byte))
            .filter(|item| is_wanted(item))
            .collect::<Vec<_>>();
        if !items.is_empty() {
            entries.push([variable.as_bytes(), b"=", &items.join(&b':')].concat());
        }
    }
    Environment { entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of an environment in an image with two folders and two libraries.
    fn inside(entries: &[&str]) -> Vec<String> {
        let there = [
            "/lib",
            "/opt/own",
            "/opt/own/libown.so",
            "/usr/lib/libstd.so",
            "/work/./rel.so",
        ];
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| entry.as_bytes().to_vec())
            .collect();
        for_image(&entries, b"/work", |path| {
            there.iter().any(|one| one.as_bytes() == path)
        })
        .entries
        .iter()
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect()
    }

    #[test]
    fn what_the_image_lacks_does_not_enter() {
        for (given, expected) in [
            (vec!["A=1", "LD_PRELOAD=libcurl.so.4"], vec!["A=1"]),
            (
                vec!["LD_PRELOAD=libstd.so libx.so:/usr/lib/libstd.so"],
                vec!["LD_PRELOAD=libstd.so:/usr/lib/libstd.so"],
            ),
            (
                vec![
                    "LD_LIBRARY_PATH=/usr/lib/libfakeroot::/opt/own;/lib",
                    "LD_PRELOAD=libown.so",
                ],
                vec!["LD_LIBRARY_PATH=/opt/own:/lib", "LD_PRELOAD=libown.so"],
            ),
            (vec!["LD_PRELOAD=libown.so"], vec![]),
            (
                vec!["LD_PRELOAD=./rel.so ./other.so"],
                vec!["LD_PRELOAD=./rel.so"],
            ),
            (vec!["LD_PRELOAD=/usr/$LIB/libbear.so"], vec![]),
            (
                vec!["LD_AUDIT=libstd.so:libx.so"],
                vec!["LD_AUDIT=libstd.so"],
            ),
            (vec!["LD_PRELOAD=", "LD_LIBRARY_PATH=:"], vec![]),
            (
                vec!["LD_PRELOAD", "LD_PRELOADED=libx.so", "LD_DEBUG=all"],
                vec!["LD_PRELOAD", "LD_PRELOADED=libx.so", "LD_DEBUG=all"],
            ),
        ] {
            let expected = [expected, vec!["HPCC_WRAPPED="]].concat();
            assert_eq!(inside(&given), expected, "{given:?}");
        }
        assert_eq!(inside(&["HPCC_WRAPPED=1:2"]), ["HPCC_WRAPPED=1:2"]);
    }
}
