//! The golden vectors that the TypeScript codec reads too: same messages, same bytes, same faults.
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

fn list(items: &[Vec<u8>]) -> Value {
    items.iter().map(|item| latin1(item)).collect()
}

fn optional<T>(value: &Option<T>, describe: impl Fn(&T) -> Value) -> Value {
    value.as_ref().map_or(Value::Null, describe)
}

fn namespace(namespace: &NamespaceRef) -> Value {
    json!({
        "holderPid": namespace.holder_pid,
        "userNamespaceIno": namespace.user_ino.map(|ino| ino.to_string()),
        "mountNamespaceIno": namespace.mount_ino.to_string(),
    })
}

fn stream(stream: &Stream) -> Value {
    match stream {
        Stream::Inherit => json!({"kind": "inherit"}),
        Stream::Discard => json!({"kind": "discard"}),
        Stream::File(path) => json!({"kind": "file", "path": latin1(path)}),
        Stream::Terminal(path) => json!({"kind": "terminal", "path": latin1(path)}),
    }
}

fn content(content: &Content) -> Value {
    match content {
        Content::Inline(bytes) => json!({"kind": "inline", "bytes": hex(bytes)}),
        Content::File(path) => json!({"kind": "file", "path": latin1(path)}),
    }
}

fn outcome(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Exited(code) => json!({"kind": "exited", "code": code}),
        Outcome::Signaled(signal) => json!({"kind": "signaled", "signal": signal}),
        Outcome::Failed { failure, errno } => {
            let name = [
                "namespace",
                "program",
                "cwd",
                "capture",
                "time-limit",
                "spawn",
            ][failure as usize - 1];
            json!({"kind": "failed", "failure": name, "errno": errno})
        }
    }
}

fn describe(message: &Message) -> Value {
    match message {
        Message::Call(call) => {
            let mut described = json!({
            "type": "call",
            "protocolVersion": 3,
            "launcherVersion": call.launcher_version,
            "mountNamespace": {
                "dev": call.mount_namespace_dev.to_string(),
                "ino": call.mount_namespace_ino.to_string(),
            },
            "argv": list(&call.argv),
            "cwd": latin1(&call.cwd),
            "environment": list(&call.environment),
            "umask": call.umask,
            "terminal": {
                "stdin": call.terminal & 1 != 0,
                "stdout": call.terminal & 2 != 0,
                "stderr": call.terminal & 4 != 0,
                "columns": call.columns,
            },
            "pid": call.pid,
            "hostCompiler": optional(&call.host_compiler, |path| latin1(path)),
            });
            match call.errand {
                Errand::Compile => {}
                Errand::Command => described["errand"] = json!("command"),
                Errand::Inside => described["errand"] = json!("inside"),
            }
            described
        }
        Message::Run(run) => json!({
            "type": "run",
            "id": run.id,
            "program": latin1(&run.program),
            "argv": list(&run.argv),
            "environment": list(&run.environment),
            "cwd": latin1(&run.cwd),
            "namespace": optional(&run.namespace, namespace),
            "stdin": if run.stdin_null { "null" } else { "inherit" },
            "stdout": stream(&run.stdout),
            "stderr": stream(&run.stderr),
            "timeLimitMs": run.time_limit_ms,
        }),
        Message::Ran(ran) => json!({
            "type": "ran",
            "id": ran.id,
            "outcome": outcome(ran.outcome),
            "usage": {
                "userUs": ran.usage.user_us,
                "systemUs": ran.usage.system_us,
                "maxRssKiB": ran.usage.max_rss_kib,
                "wallUs": ran.usage.wall_us,
            },
        }),
        Message::Wait(doing) => json!({"type": "wait", "doing": doing}),
        Message::Outputs(outputs) => {
            let mut described = json!({
            "type": "outputs",
            "exitCode": outputs.exit_code,
            "stdout": optional(&outputs.stdout, content),
            "stderr": optional(&outputs.stderr, content),
            "files": outputs.files.iter().map(|file| json!({
                "destination": latin1(&file.destination),
                "content": content(&file.content),
                "executable": file.executable,
                "manner": (["assembler", "text", "clang"][file.manner as usize]),
            })).collect::<Value>(),
            });
            if !outputs.removals.is_empty() {
                described["removals"] = list(&outputs.removals);
            }
            described
        }
        Message::Exec(exec) => json!({
            "type": "exec",
            "namespace": optional(&exec.namespace, namespace),
            "program": match &exec.program {
                None => json!({"kind": "host"}),
                Some(path) => json!({"kind": "path", "path": latin1(path)}),
            },
            "argv": optional(&exec.argv, |argv| list(argv)),
            "environment": optional(&exec.environment, |environment| list(environment)),
            "cwd": optional(&exec.cwd, |cwd| latin1(cwd)),
            "warning": exec.warning,
        }),
        Message::Control {
            protocol_version,
            json,
        } => json!({
            "type": "control",
            "protocolVersion": protocol_version,
            "request": serde_json::from_str::<Value>(json).unwrap(),
        }),
        Message::Reply { json } => {
            json!({"type": "reply", "reply": serde_json::from_str::<Value>(json).unwrap()})
        }
        Message::Refuse {
            protocol_version,
            reason,
        } => {
            json!({"type": "refuse", "protocolVersion": protocol_version, "reason": reason})
        }
        Message::Done { fell_back: None } => json!({"type": "done", "result": {"kind": "written"}}),
        Message::Done {
            fell_back: Some(reason),
        } => {
            json!({"type": "done", "result": {"kind": "fell-back", "reason": reason}})
        }
        Message::OtherVersion { protocol_version } => {
            json!({"type": "other-version", "protocolVersion": protocol_version})
        }
    }
}

fn describe_plan(plan: &Plan) -> Value {
    let configuration = json!({
        "path": latin1(&plan.configuration),
        "digest": plan.configuration_digest,
    });
    let Some(image) = &plan.image else {
        return json!({
            "kind": "host",
            "projectRoot": latin1(&plan.project_root),
            "configuration": configuration,
        });
    };
    json!({
        "kind": "image",
        "projectRoot": latin1(&plan.project_root),
        "configuration": configuration,
        "imageDigest": image.digest,
        "namespace": optional(&image.namespace, namespace),
        "sandboxArgv": list(&image.sandbox_argv),
        "compilers": image.compilers.iter().map(|compiler| json!({
            "name": latin1(&compiler.name),
            "path": latin1(&compiler.path),
            "arguments": list(&compiler.arguments),
        })).collect::<Value>(),
        "fallback": image.fallback.name(),
        "imageRoot": latin1(&image.root),
        "programFolders": list(&image.program_folders),
    })
}

fn vectors() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../test/golden/launcher-protocol/vectors.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Description and bytes again, or the fault.
fn decode(bytes: &[u8]) -> Result<(Value, Option<Vec<u8>>), Fault> {
    if bytes.get(4) == Some(&PLAN_TYPE) {
        let plan = decode_plan(bytes)?;
        return Ok((describe_plan(&plan), Some(encode_plan(&plan).unwrap())));
    }
    let (frame_type, fields) = parse_frame(bytes)?;
    let message = decode_message(frame_type, fields)?;
    Ok((describe(&message), encode_message(&message).ok()))
}

#[test]
fn the_golden_vectors_decode_to_their_messages_and_encode_to_their_bytes() {
    let vectors = vectors();
    assert!(vectors.len() >= 30);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let bytes = unhex(vector["hex"].as_str().unwrap());
        match (decode(&bytes), vector["fault"].as_str()) {
            (Err(fault), Some(expected)) => assert_eq!(fault_name(fault), expected, "{name}"),
            (Ok((description, again)), None) => {
                assert_eq!(description, vector["message"], "{name}");
                if description["type"] != "other-version" {
                    assert_eq!(hex(&again.unwrap()), hex(&bytes), "{name}");
                }
            }
            (got, expected) => panic!("{name}: {got:?}, expected fault {expected:?}"),
        }
    }
}

#[test]
fn each_vector_cut_or_altered_at_each_byte_is_decoded_or_refused_without_a_panic() {
    for vector in vectors() {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        if bytes.len() > 1000 {
            continue;
        }
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at]).is_err() || vector["fault"].is_string());
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut altered = bytes.clone();
                altered[at] = value;
                let control = matches!(altered.get(4), Some(&TYPE_CONTROL | &TYPE_REPLY));
                if !control && let Ok((_, Some(again))) = decode(&altered) {
                    assert_eq!(again, altered);
                }
            }
        }
    }
}
