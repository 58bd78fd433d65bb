//! Frames to messages. UNTRUSTED: daemon, and whoever else sits on the socket.

use crate::encode::check_removals;
use crate::fields::{Fault, FieldReader};
use crate::limits::*;
use crate::message::*;

const EXIT_CODE_MAX: u32 = 255;
const SIGNAL_MAX: u32 = 64;
const ERRNO_MAX: u32 = 4095;
const PID_MAX: u32 = i32::MAX as u32;
const UMASK_MAX: u32 = 0o777;
const COLUMNS_MAX: u32 = 65_535;

/// The length of a frame from its first four bytes: type byte and fields.
pub fn frame_length(header: [u8; 4]) -> Result<usize, Fault> {
    let length = u32::from_le_bytes(header) as usize;
    if length == 0 {
        return Err(Fault::FrameEmpty);
    }
    if length > FRAME_BYTES_MAX {
        return Err(Fault::FrameTooLong);
    }
    Ok(length)
}

/// Splits one whole frame into its type and its fields.
pub fn parse_frame(bytes: &[u8]) -> Result<(u8, &[u8]), Fault> {
    if bytes.len() < 5 {
        return Err(Fault::FrameEmpty);
    }
    let (header, rest) = bytes.split_at(4);
    let length = frame_length(header.try_into().map_err(|_| Fault::FrameEmpty)?)?;
    if rest.len() != length {
        return Err(Fault::FrameLength);
    }
    let (&frame_type, fields) = rest.split_first().ok_or(Fault::FrameEmpty)?;
    Ok((frame_type, fields))
}

/// Decodes a frame's fields.
pub fn decode_message(frame_type: u8, fields: &[u8]) -> Result<Message, Fault> {
    let known = (TYPE_CALL..=TYPE_DONE).contains(&frame_type);
    if !known {
        return Err(Fault::TypeUnknown);
    }
    let mut fields = FieldReader::new(fields)?;
    if frame_type == TYPE_CALL || frame_type == TYPE_CONTROL {
        let protocol_version = fields.u32(1, u32::MAX)?;
        if protocol_version != PROTOCOL_VERSION {
            return Ok(Message::OtherVersion { protocol_version });
        }
    }
    let message = match frame_type {
        TYPE_CALL => Message::Call(decode_call(&mut fields)?),
        TYPE_RUN => Message::Run(decode_run(&mut fields)?),
        TYPE_RAN => Message::Ran(decode_ran(&mut fields)?),
        TYPE_WAIT => Message::Wait(fields.optional_text(1, TEXT_BYTES_MAX)?),
        TYPE_OUTPUTS => Message::Outputs(decode_outputs(&mut fields)?),
        TYPE_EXEC => Message::Exec(decode_exec(&mut fields)?),
        TYPE_CONTROL => Message::Control {
            protocol_version: PROTOCOL_VERSION,
            json: fields.text(2, JSON_BYTES_MAX)?,
        },
        TYPE_REPLY => Message::Reply {
            json: fields.text(1, JSON_BYTES_MAX)?,
        },
        TYPE_REFUSE => Message::Refuse {
            protocol_version: fields.u32(1, u32::MAX)?,
            reason: fields.text(2, TEXT_BYTES_MAX)?,
        },
        _ => match fields.u8(1, 1)? {
            0 => Message::Done { fell_back: None },
            _ => Message::Done {
                fell_back: Some(fields.text(2, TEXT_BYTES_MAX)?),
            },
        },
    };
    fields.end()?;
    Ok(message)
}

pub(crate) fn absolute(path: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if path.first() == Some(&b'/') {
        Ok(path)
    } else {
        Err(Fault::ValueRange)
    }
}

fn non_empty(argv: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Fault> {
    if argv.is_empty() {
        Err(Fault::ValueRange)
    } else {
        Ok(argv)
    }
}

fn decode_call(fields: &mut FieldReader) -> Result<Call, Fault> {
    Ok(Call {
        launcher_version: fields.text(2, TEXT_BYTES_MAX)?,
        mount_namespace_dev: fields.u64(3)?,
        mount_namespace_ino: fields.u64(4)?,
        argv: non_empty(fields.strings(5, ITEM_BYTES_MAX)?)?,
        cwd: absolute(fields.string(6, PATH_BYTES_MAX)?)?,
        environment: fields.strings(7, ITEM_BYTES_MAX)?,
        umask: fields.u32(8, UMASK_MAX)?,
        terminal: fields.u8(9, 7)?,
        columns: fields.optional_u32(10, COLUMNS_MAX)?,
        pid: fields.u32(11, PID_MAX)?,
        host_compiler: fields.optional_string(12, PATH_BYTES_MAX)?,
        errand: match fields.optional_bytes(13) {
            None => Errand::Compile,
            Some([1]) => Errand::Command,
            Some([2]) => Errand::Inside,
            Some([_]) => return Err(Fault::ValueRange),
            Some(_) => return Err(Fault::FieldSize),
        },
    })
}

fn decode_run(fields: &mut FieldReader) -> Result<Run, Fault> {
    Ok(Run {
        id: fields.u32(1, u32::MAX)?,
        program: absolute(fields.string(2, PATH_BYTES_MAX)?)?,
        argv: non_empty(fields.strings(3, ITEM_BYTES_MAX)?)?,
        environment: fields.strings(4, ITEM_BYTES_MAX)?,
        cwd: absolute(fields.string(5, PATH_BYTES_MAX)?)?,
        namespace: decode_namespace(fields.optional_group(6)?)?,
        stdin_null: fields.u8(7, 1)? == 1,
        stdout: decode_stream(fields.group(8)?)?,
        stderr: decode_stream(fields.group(9)?)?,
        time_limit_ms: fields.optional_u32(10, u32::MAX)?,
    })
}

pub(crate) fn decode_namespace(group: Option<FieldReader>) -> Result<Option<NamespaceRef>, Fault> {
    let Some(mut group) = group else {
        return Ok(None);
    };
    let namespace = NamespaceRef {
        holder_pid: group.u32(1, PID_MAX)?,
        user_ino: group.optional_u64(2)?,
        mount_ino: group.u64(3)?,
    };
    group.end()?;
    Ok(Some(namespace))
}

fn decode_stream(mut group: FieldReader) -> Result<Stream, Fault> {
    let stream = match group.u8(1, 3)? {
        0 => Stream::Inherit,
        1 => Stream::Discard,
        2 => Stream::File(absolute(group.string(2, PATH_BYTES_MAX)?)?),
        _ => Stream::Terminal(absolute(group.string(2, PATH_BYTES_MAX)?)?),
    };
    group.end()?;
    Ok(stream)
}

fn decode_ran(fields: &mut FieldReader) -> Result<Ran, Fault> {
    let id = fields.u32(1, u32::MAX)?;
    let outcome = match fields.u8(2, 2)? {
        0 => Outcome::Exited(fields.u32(3, EXIT_CODE_MAX)?),
        1 => Outcome::Signaled(fields.u32(3, SIGNAL_MAX)?),
        _ => {
            let errno = fields.u32(3, ERRNO_MAX)?;
            let failure = match fields.u8(4, 6)? {
                1 => RunFailure::Namespace,
                2 => RunFailure::Program,
                3 => RunFailure::Cwd,
                4 => RunFailure::Capture,
                5 => RunFailure::TimeLimit,
                6 => RunFailure::Spawn,
                _ => return Err(Fault::ValueRange),
            };
            Outcome::Failed { failure, errno }
        }
    };
    let usage = Usage {
        user_us: fields.count(5)?,
        system_us: fields.count(6)?,
        max_rss_kib: fields.count(7)?,
        wall_us: fields.count(8)?,
    };
    Ok(Ran { id, outcome, usage })
}

fn decode_content(mut group: FieldReader) -> Result<Content, Fault> {
    let content = match group.optional_bytes(1) {
        Some(bytes) => Content::Inline(bytes.to_vec()),
        None => Content::File(absolute(group.string(2, PATH_BYTES_MAX)?)?),
    };
    group.end()?;
    Ok(content)
}

fn decode_outputs(fields: &mut FieldReader) -> Result<Outputs, Fault> {
    let exit_code = fields.u32(1, EXIT_CODE_MAX)?;
    let stdout = fields.optional_group(2)?.map(decode_content).transpose()?;
    let stderr = fields.optional_group(3)?.map(decode_content).transpose()?;
    let mut files = Vec::new();
    for item in fields.list(4, OUTPUT_FILES_MAX, FRAME_BYTES_MAX)? {
        files.push(decode_output_file(FieldReader::new(item)?)?);
    }
    let removals = fields.optional_strings(5, PATH_BYTES_MAX)?;
    if let Some(removals) = &removals {
        check_removals(removals)?;
    }
    Ok(Outputs {
        exit_code,
        stdout,
        stderr,
        files,
        removals: removals.unwrap_or_default(),
    })
}

fn decode_output_file(mut fields: FieldReader) -> Result<OutputFile, Fault> {
    let file = OutputFile {
        destination: fields.string(1, PATH_BYTES_MAX)?,
        content: decode_content(fields.group(2)?)?,
        executable: fields.u8(3, 1)? == 1,
        manner: Manner::of(fields.u8(4, 2)?),
    };
    fields.end()?;
    if file.destination.is_empty() {
        Err(Fault::ValueRange)
    } else {
        Ok(file)
    }
}

fn decode_exec(fields: &mut FieldReader) -> Result<Exec, Fault> {
    Ok(Exec {
        namespace: decode_namespace(fields.optional_group(1)?)?,
        program: fields
            .optional_string(2, PATH_BYTES_MAX)?
            .map(absolute)
            .transpose()?,
        argv: fields
            .optional_strings(3, ITEM_BYTES_MAX)?
            .map(non_empty)
            .transpose()?,
        environment: fields.optional_strings(4, ITEM_BYTES_MAX)?,
        cwd: fields
            .optional_string(5, PATH_BYTES_MAX)?
            .map(absolute)
            .transpose()?,
        warning: fields.optional_text(6, TEXT_BYTES_MAX)?,
    })
}
