//! The golden vectors of replay records that the TypeScript codec reads too, and records that are damaged everywhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use hpcc_frames::*;
use serde_json::{Value, json};

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn latin1(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().map(|&byte| char::from(byte)).collect())
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

fn strings_of(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(bytes_of).collect()
}

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../test/golden/replay/vectors.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn digest(digest: &[u8; DIGEST_BYTES]) -> Value {
    json!(format!("sha256:{}", hex(digest)))
}

fn stamped(stamped: &StampedPath) -> Value {
    let Stamp {
        dev,
        ino,
        size,
        modified,
        changed,
        mode,
    } = stamped.stamp;
    json!({
        "path": latin1(stamped.path.strip_suffix(b"\0").unwrap()),
        "stamp": {
            "dev": dev.to_string(),
            "ino": ino.to_string(),
            "size": size.to_string(),
            "mtimeNs": modified.to_string(),
            "ctimeNs": changed.to_string(),
            "mode": mode.to_string(),
        },
    })
}

fn describe(record: &ReplayRecord) -> Value {
    let outputs: Value = record
        .outputs
        .iter()
        .map(|output| {
            json!({
                "destination": latin1(&output.destination),
                "kept": stamped(&output.kept),
                "executable": output.executable,
                "manner": (["assembler", "text", "clang"][output.manner as usize]),
                "digest": digest(&output.digest),
            })
        })
        .collect();
    let places: Value = record
        .places
        .iter()
        .map(|place| {
            json!({
                "path": latin1(place.path.strip_suffix(b"\0").unwrap()),
                "dev": place.dev.to_string(),
                "ino": place.ino.to_string(),
            })
        })
        .collect();
    json!({
        "name": digest(&record.name),
        "recordedMs": record.recorded_ms,
        "stamps": record.stamps.iter().map(stamped).collect::<Value>(),
        "absent": record.absent.iter().map(|path| latin1(path.strip_suffix(b"\0").unwrap())).collect::<Value>(),
        "places": places,
        "outputs": outputs,
        "stdout": hex(record.stdout),
        "stderr": hex(record.stderr),
        "project": record.project.as_ref().map_or(Value::Null, |path| latin1(path)),
        "source": latin1(&record.source),
        "output": latin1(&record.output),
        "call": record.call.as_ref().map_or(Value::Null, digest),
    })
}

#[test]
fn the_lists_of_variables_are_those_of_the_vectors() {
    let vectors = vectors();
    assert_eq!(json!(REPLAY_VARIABLES.as_slice()), vectors["variables"]);
    assert_eq!(
        json!(REPLAY_VARIABLE_PREFIXES.as_slice()),
        vectors["prefixes"]
    );
    assert_eq!(
        json!(REPLAY_VARIABLE_SUFFIXES.as_slice()),
        vectors["suffixes"]
    );
    assert!(
        REPLAY_VARIABLES.is_sorted(),
        "they are sought by their order"
    );
    for name in REPLAY_VARIABLES {
        assert!(counts_for_replay(name.as_bytes()), "{name}");
        assert!(
            counts_for_replay(format!("{name}=x").as_bytes()),
            "{name}=x"
        );
        assert!(
            !counts_for_replay(format!("X{name}=").as_bytes()),
            "X{name}"
        );
    }
    assert_eq!(json!(REPLAY_VARIABLES_APART.as_slice()), vectors["apart"]);
    for name in REPLAY_VARIABLES_APART {
        assert!(!counts_for_replay(format!("{name}=x").as_bytes()), "{name}");
        assert!(
            counts_for_replay(format!("{name}S=x").as_bytes()),
            "{name}S"
        );
    }
    for entry in ["MAKEFLAGS=-j", "_=/bin/x", "OLDPWD=/", "PATHS=/x", "", "=x"] {
        assert!(!counts_for_replay(entry.as_bytes()), "{entry}");
    }
}

#[test]
fn the_golden_vectors_of_names_have_their_bytes() {
    let vectors = vectors();
    let names = vectors["names"].as_array().unwrap();
    assert!(names.len() >= 3);
    for vector in names {
        let call = &vector["call"];
        let number = |value: &Value| value.as_str().unwrap().parse().unwrap();
        let terminal = &call["terminal"];
        let bit = |name: &str, bit| u8::from(terminal[name].as_bool().unwrap()) << bit;
        let groups = call["groups"].as_array().unwrap();
        let bytes = encode_replay_name(&ReplayCall {
            launcher_version: call["launcherVersion"].as_str().unwrap(),
            argv: &strings_of(&call["argv"]),
            cwd: &bytes_of(&call["cwd"]),
            environment: &strings_of(&call["environment"]),
            umask: u32::try_from(call["umask"].as_u64().unwrap()).unwrap(),
            terminal: bit("stdin", 0) | bit("stdout", 1) | bit("stderr", 2),
            columns: terminal["columns"]
                .as_u64()
                .map(|columns| u32::try_from(columns).unwrap()),
            user: u32::try_from(call["user"].as_u64().unwrap()).unwrap(),
            groups: &groups
                .iter()
                .map(|group| u32::try_from(group.as_u64().unwrap()).unwrap())
                .collect::<Vec<_>>(),
            mount_namespace_dev: number(&call["mountNamespace"]["dev"]),
            mount_namespace_ino: number(&call["mountNamespace"]["ino"]),
            pwd: match call["pwd"].as_str().unwrap() {
                "leads" => Pwd::Leads,
                "misleads" => Pwd::Misleads,
                _ => Pwd::None,
            },
        });
        assert_eq!(
            hex(&bytes.unwrap()),
            vector["hex"].as_str().unwrap(),
            "{}",
            vector["name"]
        );
    }
}

#[test]
fn the_golden_vectors_of_records_decode_to_their_records_and_encode_to_their_bytes() {
    let vectors = vectors();
    let records = vectors["records"].as_array().unwrap();
    assert!(records.len() >= 30);
    for vector in records {
        let name = vector["name"].as_str().unwrap();
        let bytes = unhex(vector["hex"].as_str().unwrap());
        match (decode_replay_record(&bytes), vector["fault"].as_str()) {
            (Err(fault), Some(expected)) => assert_eq!(fault_name(fault), expected, "{name}"),
            (Ok(record), None) => {
                assert_eq!(describe(&record), vector["record"], "{name}");
                assert_eq!(
                    hex(&encode_replay_record(&record).unwrap()),
                    hex(&bytes),
                    "{name}"
                );
            }
            (got, expected) => panic!("{name}: {got:?}, expected fault {expected:?}"),
        }
    }
}

#[test]
fn each_record_cut_or_altered_at_each_byte_is_refused_and_with_its_checksum_made_right_never_panics()
 {
    let mut seen = 0;
    for vector in vectors()["records"].as_array().unwrap() {
        if vector["fault"].is_string() {
            continue;
        }
        let bytes = unhex(vector["hex"].as_str().unwrap());
        for at in 0..bytes.len() {
            assert!(decode_replay_record(&bytes[..at]).is_err());
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                assert!(
                    decode_replay_record(&altered).is_err(),
                    "byte {at}, bit {bit}"
                );
                if let Some((frame, _)) = altered.split_last_chunk::<4>() {
                    let sealed = [frame, &crc32fast::hash(frame).to_le_bytes()].concat();
                    if let Ok(record) = decode_replay_record(&sealed) {
                        assert_eq!(encode_replay_record(&record).unwrap(), sealed);
                    }
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 1000);
}
