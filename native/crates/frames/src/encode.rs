//! Messages to frames.

use crate::fields::{Fault, FieldWriter};
use crate::limits::*;
use crate::message::*;

/// The frame of a message; a fault when a value is over its limit.
pub fn encode_message(message: &Message) -> Result<Vec<u8>, Fault> {
    let mut fields = FieldWriter::default();
    let frame_type = match message {
        Message::Call(call) => {
            call_fields(&mut fields, call)?;
            TYPE_CALL
        }
        Message::Run(run) => {
            run_fields(&mut fields, run)?;
            TYPE_RUN
        }
        Message::Ran(ran) => {
            ran_fields(&mut fields, ran)?;
            TYPE_RAN
        }
        Message::Wait(doing) => {
            if let Some(doing) = doing {
                fields.text(1, doing, TEXT_BYTES_MAX)?;
            }
            TYPE_WAIT
        }
        Message::Outputs(outputs) => {
            outputs_fields(&mut fields, outputs)?;
            TYPE_OUTPUTS
        }
        Message::Exec(exec) => {
            exec_fields(&mut fields, exec)?;
            TYPE_EXEC
        }
        Message::Control {
            protocol_version,
            json,
        } => {
            fields.u32(1, *protocol_version)?;
            fields.text(2, json, JSON_BYTES_MAX)?;
            TYPE_CONTROL
        }
        Message::Reply { json } => {
            fields.text(1, json, JSON_BYTES_MAX)?;
            TYPE_REPLY
        }
        Message::Refuse {
            protocol_version,
            reason,
        } => {
            fields.u32(1, *protocol_version)?;
            fields.text(2, reason, TEXT_BYTES_MAX)?;
            TYPE_REFUSE
        }
        Message::Done { fell_back } => {
            fields.u8(1, u8::from(fell_back.is_some()))?;
            if let Some(reason) = fell_back {
                fields.text(2, reason, TEXT_BYTES_MAX)?;
            }
            TYPE_DONE
        }
        Message::OtherVersion { .. } => return Err(Fault::TypeUnknown),
    };
    fields.frame(frame_type)
}

fn non_empty(argv: &[Vec<u8>]) -> Result<&[Vec<u8>], Fault> {
    if argv.is_empty() {
        Err(Fault::ValueRange)
    } else {
        Ok(argv)
    }
}

fn call_fields(fields: &mut FieldWriter, call: &Call) -> Result<(), Fault> {
    fields.u32(1, PROTOCOL_VERSION)?;
    fields.text(2, &call.launcher_version, TEXT_BYTES_MAX)?;
    fields.u64(3, call.mount_namespace_dev)?;
    fields.u64(4, call.mount_namespace_ino)?;
    fields.strings(5, non_empty(&call.argv)?, ITEM_BYTES_MAX)?;
    fields.string(6, &call.cwd, PATH_BYTES_MAX)?;
    fields.strings(7, &call.environment, ITEM_BYTES_MAX)?;
    fields.u32(8, call.umask)?;
    fields.u8(9, call.terminal)?;
    if let Some(columns) = call.columns {
        fields.u32(10, columns)?;
    }
    fields.u32(11, call.pid)?;
    if let Some(compiler) = &call.host_compiler {
        fields.string(12, compiler, PATH_BYTES_MAX)?;
    }
    if call.errand != Errand::Compile {
        fields.u8(13, call.errand as u8)?;
    }
    Ok(())
}

fn run_fields(fields: &mut FieldWriter, run: &Run) -> Result<(), Fault> {
    fields.u32(1, run.id)?;
    fields.string(2, &run.program, PATH_BYTES_MAX)?;
    fields.strings(3, non_empty(&run.argv)?, ITEM_BYTES_MAX)?;
    fields.strings(4, &run.environment, ITEM_BYTES_MAX)?;
    fields.string(5, &run.cwd, PATH_BYTES_MAX)?;
    if let Some(namespace) = &run.namespace {
        fields.group(6, namespace_fields(namespace)?)?;
    }
    fields.u8(7, u8::from(run.stdin_null))?;
    fields.group(8, stream_fields(&run.stdout)?)?;
    fields.group(9, stream_fields(&run.stderr)?)?;
    if let Some(limit) = run.time_limit_ms {
        fields.u32(10, limit)?;
    }
    Ok(())
}

pub(crate) fn namespace_fields(namespace: &NamespaceRef) -> Result<FieldWriter, Fault> {
    let mut fields = FieldWriter::default();
    fields.u32(1, namespace.holder_pid)?;
    if let Some(ino) = namespace.user_ino {
        fields.u64(2, ino)?;
    }
    fields.u64(3, namespace.mount_ino)?;
    Ok(fields)
}

fn stream_fields(stream: &Stream) -> Result<FieldWriter, Fault> {
    let mut fields = FieldWriter::default();
    match stream {
        Stream::Inherit => fields.u8(1, 0)?,
        Stream::Discard => fields.u8(1, 1)?,
        Stream::File(path) => {
            fields.u8(1, 2)?;
            fields.string(2, path, PATH_BYTES_MAX)?;
        }
        Stream::Terminal(path) => {
            fields.u8(1, 3)?;
            fields.string(2, path, PATH_BYTES_MAX)?;
        }
    }
    Ok(fields)
}

fn ran_fields(fields: &mut FieldWriter, ran: &Ran) -> Result<(), Fault> {
    fields.u32(1, ran.id)?;
    match ran.outcome {
        Outcome::Exited(code) => {
            fields.u8(2, 0)?;
            fields.u32(3, code)?;
        }
        Outcome::Signaled(signal) => {
            fields.u8(2, 1)?;
            fields.u32(3, signal)?;
        }
        Outcome::Failed { failure, errno } => {
            fields.u8(2, 2)?;
            fields.u32(3, errno)?;
            fields.u8(4, failure as u8)?;
        }
    }
    fields.u64(5, ran.usage.user_us)?;
    fields.u64(6, ran.usage.system_us)?;
    fields.u64(7, ran.usage.max_rss_kib)?;
    fields.u64(8, ran.usage.wall_us)
}

fn content_fields(content: &Content) -> Result<FieldWriter, Fault> {
    let mut fields = FieldWriter::default();
    match content {
        Content::Inline(bytes) => fields.raw(1, bytes)?,
        Content::File(path) => fields.string(2, path, PATH_BYTES_MAX)?,
    }
    Ok(fields)
}

fn outputs_fields(fields: &mut FieldWriter, outputs: &Outputs) -> Result<(), Fault> {
    fields.u32(1, outputs.exit_code)?;
    if let Some(stdout) = &outputs.stdout {
        fields.group(2, content_fields(stdout)?)?;
    }
    if let Some(stderr) = &outputs.stderr {
        fields.group(3, content_fields(stderr)?)?;
    }
    let mut files = Vec::with_capacity(outputs.files.len());
    for file in &outputs.files {
        let mut group = FieldWriter::default();
        group.string(1, &file.destination, PATH_BYTES_MAX)?;
        group.group(2, content_fields(&file.content)?)?;
        group.u8(3, u8::from(file.executable))?;
        group.u8(4, file.manner as u8)?;
        files.push(group.finish());
    }
    if files.len() > OUTPUT_FILES_MAX {
        return Err(Fault::ValueLimit);
    }
    fields.list(4, &files, FRAME_BYTES_MAX)?;
    if outputs.removals.is_empty() {
        return Ok(());
    }
    check_removals(&outputs.removals)?;
    fields.strings(5, &outputs.removals, PATH_BYTES_MAX)
}

pub(crate) fn check_removals(removals: &[Vec<u8>]) -> Result<(), Fault> {
    if removals.len() > OUTPUT_FILES_MAX {
        return Err(Fault::ValueLimit);
    }
    if removals.is_empty() || removals.iter().any(Vec::is_empty) {
        return Err(Fault::ValueRange);
    }
    Ok(())
}

fn exec_fields(fields: &mut FieldWriter, exec: &Exec) -> Result<(), Fault> {
    if let Some(namespace) = &exec.namespace {
        fields.group(1, namespace_fields(namespace)?)?;
    }
    if let Some(program) = &exec.program {
        fields.string(2, program, PATH_BYTES_MAX)?;
    }
    if let Some(argv) = &exec.argv {
        fields.strings(3, non_empty(argv)?, ITEM_BYTES_MAX)?;
    }
    if let Some(environment) = &exec.environment {
        fields.strings(4, environment, ITEM_BYTES_MAX)?;
    }
    if let Some(cwd) = &exec.cwd {
        fields.string(5, cwd, PATH_BYTES_MAX)?;
    }
    if let Some(warning) = &exec.warning {
        fields.text(6, warning, TEXT_BYTES_MAX)?;
    }
    Ok(())
}
