//! Whether the paths of a job are one tree: what stands at one of them leaves room for the others.
// UNTRUSTED: the worker, and through it the tenant.

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    File,
    Link,
    /// A folder in which no file, link or other such folder stands.
    Folder,
    /// The program may leave a file there.
    Output,
    /// A folder that must be there: the working folder, and those of every execution.
    Needed,
}

/// A path, relative to the sandbox's root, and what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'path> {
    pub path: &'path [u8],
    pub role: Role,
}

/// What cannot both be: the first stands at or above the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash(pub Role, pub Role);

impl Clash {
    /// The clash in words.
    pub fn words(self) -> String {
        let name = |role| match role {
            Role::File => "an input",
            Role::Link => "a link",
            Role::Folder => "a folder",
            Role::Output => "an output",
            Role::Needed => "a folder that must be there",
        };
        format!("{} stands at or below {}", name(self.1), name(self.0))
    }
}

/// Checks the places of a job.
pub fn check(mut places: Vec<Place>) -> Result<(), Clash> {
    places.sort_unstable();
    // In this order `a.b` stands between `a` and `a/b`, but only paths that begin with `a` do. Each place of this list begins
    // with the one before it.
    let mut beginnings: Vec<Place> = Vec::new();
    for place in places {
        while beginnings
            .last()
            .is_some_and(|above| !place.path.starts_with(above.path))
        {
            beginnings.pop();
        }
        for above in &beginnings {
            let clash = match place.path.get(above.path.len()) {
                None => clash_at(above.role, place.role),
                Some(b'/') => clash_below(above.role, place.role),
                Some(_) => false,
            };
            if clash {
                return Err(Clash(above.role, place.role));
            }
        }
        if matches!(place.role, Role::File | Role::Link | Role::Folder) {
            beginnings.push(place);
        }
    }
    Ok(())
}

/// Whether two roles at one path exclude each other.
fn clash_at(first: Role, second: Role) -> bool {
    !matches!(
        (first, second),
        (Role::File, Role::Output) | (Role::Folder, Role::Needed)
    )
}

/// Whether a role excludes another one below it.
fn clash_below(above: Role, below: Role) -> bool {
    !matches!((above, below), (Role::Folder, Role::Output | Role::Needed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::*;

    const ROLES: [Role; 5] = [File, Link, Folder, Output, Needed];

    fn place(path: &str, role: Role) -> Place<'_> {
        Place {
            path: path.as_bytes(),
            role,
        }
    }

    #[test]
    fn what_stands_beside_another_is_good() {
        let paths = ["a/b", "a/b.c", "a/bc", "a/b-/x", "a/bb/c", "b"];
        for first in ROLES {
            for second in ROLES {
                for other in &paths[1..] {
                    let places = vec![place(other, second), place("a/b", first)];
                    assert_eq!(check(places), Ok(()), "{other} {first:?} {second:?}");
                }
            }
        }
    }

    #[test]
    fn files_and_links_have_nothing_below_them() {
        for above in [File, Link] {
            for below in ROLES {
                for path in ["a/b/c", "a/b/c/d"] {
                    let places = vec![
                        place(path, below),
                        place("a/b.c", File),
                        place("a/b", above),
                        place("a/b-/x", Link),
                    ];
                    assert_eq!(check(places), Err(Clash(above, below)));
                }
            }
        }
    }

    #[test]
    fn one_path_has_one_role() {
        for first in [File, Link, Folder] {
            for second in ROLES {
                let good = [(File, Output), (Folder, Needed)].contains(&(first, second));
                let places = vec![place("a/b", second), place("a/b", first)];
                assert_eq!(check(places).is_ok(), good, "{first:?} {second:?}");
            }
        }
    }

    #[test]
    fn outputs_may_come_into_empty_folders_and_all_else_may_not() {
        for below in ROLES {
            let places = vec![place("a", Folder), place("a/b/c", below)];
            assert_eq!(check(places).is_ok(), [Output, Needed].contains(&below));
        }
        let outputs = vec![place("a", Output), place("a/b", Output), place("a", Needed)];
        assert_eq!(check(outputs), Ok(()));
    }
}
