//! Replay records and the bytes that name them (docs/specs/replay.md). Pure coding.
//! UNTRUSTED: whoever could write the record's file; a record that is cut, flipped or made up is a fault, never a panic.

use crate::decode::{absolute, parse_frame};
use crate::fields::{Fault, FieldReader, FieldWriter};
use crate::limits::*;
use crate::message::Manner;

/// Type byte of a replay record's frame.
pub const REPLAY_TYPE: u8 = 65;
/// Type byte of the frame whose digest is a record's name.
pub const REPLAY_NAME_TYPE: u8 = 66;

pub const DIGEST_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
/// dev, ino, size, mtime, ctime: u64 each; mode: u32.
const STAMP_BYTES: usize = 44;
/// dev, ino: u64 each.
const PLACE_BYTES: usize = 16;

/// Variables that a compile, or what is decided of it, may depend on; src/wire/launcher/replay-environment.ts holds the same ones.
pub const REPLAY_VARIABLES: [&str; 70] = [
    "AS_SECURE_LOG_FILE",
    "BASH_ENV",
    "CHARSET",
    "CL",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "COMPILER_PATH",
    "CPATH",
    "CXX_MODULE_MAPPER",
    "DEPENDENCIES_OUTPUT",
    "ENV",
    "EXPERIMENTAL_SARIF_SOCKET",
    "EXTERNAL_INCLUDE",
    "FORCE_COLOR",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "GNUTARGET",
    "HOME",
    "ICCCFG",
    "ICPCCFG",
    "ICPXCFG",
    "ICXCFG",
    "INCLUDE",
    "LANG",
    "LANGUAGE",
    "LDEMULATION",
    "LIB",
    "LIBPATH",
    "LIBRARY_PATH",
    "LINES",
    "LOCPATH",
    "LPATH",
    "NLSPATH",
    "NO_COLOR",
    "OBJECT_MODE",
    "OUTPUT_CHARSET",
    "PATH",
    "POSIXLY_CORRECT",
    "PWD",
    "QA_OVERRIDE_GCC3_OPTIONS",
    "SCE_ORBIS_SDK_DIR",
    "SCE_PROSPERO_SDK_DIR",
    "SDKROOT",
    "SOURCE_DATE_EPOCH",
    "SUNPRO_DEPENDENCIES",
    "SUNPRO_OUTPUT",
    "TEMP",
    "TERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "TERM_URLS",
    "TMP",
    "TMPDIR",
    "TZ",
    "TZDIR",
    "UNICODE_VERSION",
    "VTE_VERSION",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "ZERO_AR_DATE",
    "_CL_",
    "_LINK_",
    "_PYTHON_HOST_PLATFORM",
];
pub const REPLAY_VARIABLE_PREFIXES: [&str; 30] = [
    "CCACHE_",
    "CCC_",
    "CC_LOG_",
    "CC_PRINT_",
    "CLANG_",
    "COLLECT_",
    "COLORGCC",
    "DEB_BUILD_",
    "DISTCC_",
    "EMCC_",
    "EM_",
    "FAKED_",
    "FAKEROOT",
    "FORCE_CLANG_",
    "GCC_",
    "GXX_",
    "HPCC_",
    "ICECC_",
    "LC_",
    "LD_",
    "LIBCLANG_",
    "LLVM_",
    "MALLOC_",
    "NIX_",
    "NVCC_",
    "PERL5",
    "PYTHON",
    "RC_DEBUG_",
    "SCCACHE_",
    "VSCMD_",
];
pub const REPLAY_VARIABLE_SUFFIXES: [&str; 3] =
    ["SAN_OPTIONS", "_DEPLOYMENT_TARGET", "_INCLUDE_PATH"];

/// A variable's name within its entry: all of it when there is no `=`.
fn variable_name(entry: &[u8]) -> &[u8] {
    entry
        .iter()
        .position(|&byte| byte == b'=')
        .map_or(entry, |at| &entry[..at])
}

/// Of these prefixes, and yet no part: the name of a build is for the audit log alone.
pub const REPLAY_VARIABLES_APART: [&str; 1] = ["HPCC_BUILD_ID"];

/// Whether an environment entry is part of a record's name.
pub fn counts_for_replay(entry: &[u8]) -> bool {
    let name = variable_name(entry);
    if REPLAY_VARIABLES_APART
        .iter()
        .any(|known| known.as_bytes() == name)
    {
        return false;
    }
    REPLAY_VARIABLES
        .binary_search_by(|known| known.as_bytes().cmp(name))
        .is_ok()
        || REPLAY_VARIABLE_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix.as_bytes()))
        || REPLAY_VARIABLE_SUFFIXES
            .iter()
            .any(|suffix| name.ends_with(suffix.as_bytes()))
}

/// What PWD says of the working folder: compilers take its spelling where it leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pwd {
    /// Not set, or no absolute path.
    None = 0,
    Leads = 1,
    Misleads = 2,
}

/// What a launcher sees of a call before it parses anything.
#[derive(Debug, Clone, Copy)]
pub struct ReplayCall<'a> {
    pub launcher_version: &'a str,
    pub argv: &'a [Vec<u8>],
    pub cwd: &'a [u8],
    /// All of it; what does not count is left out here.
    pub environment: &'a [Vec<u8>],
    pub umask: u32,
    /// Bit 0 stdin, 1 stdout, 2 stderr.
    pub terminal: u8,
    pub columns: Option<u32>,
    pub user: u32,
    /// Effective and supplementary ones, in any order.
    pub groups: &'a [u32],
    pub mount_namespace_dev: u64,
    pub mount_namespace_ino: u64,
    pub pwd: Pwd,
}

/// The bytes whose SHA-256 is the name of the call's record.
pub fn encode_replay_name(call: &ReplayCall) -> Result<Vec<u8>, Fault> {
    let mut entries: Vec<&[u8]> = call
        .environment
        .iter()
        .map(Vec::as_slice)
        .filter(|entry| counts_for_replay(entry))
        .collect();
    // Of two entries of one name the first counts: their order stays.
    entries.sort_by(|a, b| variable_name(a).cmp(variable_name(b)));
    let mut groups = call.groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    let mut fields = FieldWriter::default();
    fields.u32(1, REPLAY_VERSION)?;
    fields.text(2, call.launcher_version, TEXT_BYTES_MAX)?;
    fields.strings(3, call.argv, ITEM_BYTES_MAX)?;
    fields.string(4, call.cwd, PATH_BYTES_MAX)?;
    fields.strings(5, &entries, ITEM_BYTES_MAX)?;
    fields.u32(6, call.umask)?;
    fields.u8(7, call.terminal)?;
    if let Some(columns) = call.columns {
        fields.u32(8, columns)?;
    }
    fields.u32(9, call.user)?;
    let coded: Vec<u8> = groups
        .iter()
        .flat_map(|group| group.to_le_bytes())
        .collect();
    fields.raw(10, &coded)?;
    fields.u64(11, call.mount_namespace_dev)?;
    fields.u64(12, call.mount_namespace_ino)?;
    fields.u8(13, call.pwd as u8)?;
    fields.frame(REPLAY_NAME_TYPE)
}

/// What stat tells of a file or folder that must not have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    pub changed: i64,
    /// Type and permissions. A link's type asks for the link itself.
    pub mode: u32,
}

/// A stamp and an absolute path, whose slice ends with its zero byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampedPath<'a> {
    pub stamp: Stamp,
    pub path: &'a [u8],
}

/// A folder that must be there and be this one, whatever is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub dev: u64,
    pub ino: u64,
    pub path: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayOutput<'a> {
    /// As the caller spelled it.
    pub destination: Vec<u8>,
    /// The store's file.
    pub kept: StampedPath<'a>,
    pub executable: bool,
    pub manner: Manner,
    pub digest: [u8; DIGEST_BYTES],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRecord<'a> {
    pub name: [u8; DIGEST_BYTES],
    /// Milliseconds since 1970.
    pub recorded_ms: u64,
    pub stamps: Vec<StampedPath<'a>>,
    /// Absolute paths at which there must be nothing; each ends with its zero byte.
    pub absent: Vec<&'a [u8]>,
    pub places: Vec<Place<'a>>,
    pub outputs: Vec<ReplayOutput<'a>>,
    pub stdout: &'a [u8],
    pub stderr: &'a [u8],
    pub project: Option<Vec<u8>>,
    pub source: Vec<u8>,
    pub output: Vec<u8>,
    /// What the store knows the call by.
    pub call: Option<[u8; DIGEST_BYTES]>,
}

/// The bytes of a record's file.
pub fn encode_replay_record(record: &ReplayRecord) -> Result<Vec<u8>, Fault> {
    let mut fields = FieldWriter::default();
    fields.u32(1, REPLAY_VERSION)?;
    fields.raw(2, &record.name)?;
    fields.u64(3, record.recorded_ms)?;
    let stamps: Vec<_> = record.stamps.iter().map(stamped_bytes).collect();
    fields.list(4, &stamps, REPLAY_BYTES_MAX)?;
    fields.list(5, &record.absent, REPLAY_BYTES_MAX)?;
    let places: Vec<_> = record
        .places
        .iter()
        .map(|place| {
            let (dev, ino) = (place.dev.to_le_bytes(), place.ino.to_le_bytes());
            [&dev[..], &ino, place.path].concat()
        })
        .collect();
    fields.list(6, &places, REPLAY_BYTES_MAX)?;
    let mut outputs = Vec::with_capacity(record.outputs.len());
    for output in &record.outputs {
        let mut group = FieldWriter::default();
        group.string(1, &output.destination, PATH_BYTES_MAX)?;
        group.raw(2, &stamped_bytes(&output.kept))?;
        group.u8(3, u8::from(output.executable))?;
        group.u8(4, output.manner as u8)?;
        group.raw(5, &output.digest)?;
        outputs.push(group.finish());
    }
    fields.list(7, &outputs, REPLAY_BYTES_MAX)?;
    fields.raw(8, record.stdout)?;
    fields.raw(9, record.stderr)?;
    if let Some(project) = &record.project {
        fields.string(10, project, PATH_BYTES_MAX)?;
    }
    fields.string(11, &record.source, PATH_BYTES_MAX)?;
    fields.string(12, &record.output, PATH_BYTES_MAX)?;
    if let Some(call) = &record.call {
        fields.raw(13, call)?;
    }
    let mut file = fields.frame(REPLAY_TYPE)?;
    file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
    if file.len() > REPLAY_BYTES_MAX {
        return Err(Fault::FrameTooLong);
    }
    // Its paths are checked where they are read.
    decode_replay_record(&file).map(drop)?;
    Ok(file)
}

fn stamped_bytes(stamped: &StampedPath) -> Vec<u8> {
    let Stamp {
        dev,
        ino,
        size,
        modified,
        changed,
        mode,
    } = stamped.stamp;
    let mut bytes = Vec::with_capacity(STAMP_BYTES + stamped.path.len());
    for number in [
        dev,
        ino,
        size,
        modified.cast_unsigned(),
        changed.cast_unsigned(),
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&mode.to_le_bytes());
    bytes.extend_from_slice(stamped.path);
    bytes
}

/// Decodes a record's file.
pub fn decode_replay_record(file: &[u8]) -> Result<ReplayRecord<'_>, Fault> {
    if file.len() > REPLAY_BYTES_MAX {
        return Err(Fault::FrameTooLong);
    }
    let (frame, checksum) = file
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(Fault::FrameEmpty)?;
    let (frame_type, fields) = parse_frame(frame)?;
    if frame_type != REPLAY_TYPE {
        return Err(Fault::TypeUnknown);
    }
    if crc32fast::hash(frame) != u32::from_le_bytes(*checksum) {
        return Err(Fault::Checksum);
    }
    let mut fields = FieldReader::new(fields)?;
    if fields.u32(1, u32::MAX)? != REPLAY_VERSION {
        return Err(Fault::ValueRange);
    }
    let record = ReplayRecord {
        name: digest(fields.bytes(2)?)?,
        recorded_ms: fields.count(3)?,
        stamps: items(&mut fields, 4, decode_stamped)?,
        absent: items(&mut fields, 5, terminated)?,
        places: items(&mut fields, 6, decode_place)?,
        outputs: fields
            .list(7, OUTPUT_FILES_MAX, REPLAY_BYTES_MAX)?
            .into_iter()
            .map(|item| decode_output(FieldReader::new(item)?))
            .collect::<Result<_, _>>()?,
        stdout: fields.bytes(8)?,
        stderr: fields.bytes(9)?,
        project: fields
            .optional_string(10, PATH_BYTES_MAX)?
            .map(absolute)
            .transpose()?,
        source: absolute(fields.string(11, PATH_BYTES_MAX)?)?,
        output: absolute(fields.string(12, PATH_BYTES_MAX)?)?,
        call: fields.optional_bytes(13).map(digest).transpose()?,
    };
    fields.end()?;
    Ok(record)
}

fn items<'a, T>(
    fields: &mut FieldReader<'a>,
    tag: u8,
    decode: impl Fn(&'a [u8]) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let items = fields.list(tag, REPLAY_NAMES_MAX, REPLAY_BYTES_MAX)?;
    items.into_iter().map(decode).collect()
}

fn digest(bytes: &[u8]) -> Result<[u8; DIGEST_BYTES], Fault> {
    bytes.try_into().map_err(|_| Fault::FieldSize)
}

/// An absolute path and one zero byte, its last.
fn terminated(bytes: &[u8]) -> Result<&[u8], Fault> {
    let Some((0, path)) = bytes.split_last() else {
        return Err(Fault::FieldSize);
    };
    if path.len() > PATH_BYTES_MAX {
        return Err(Fault::ValueLimit);
    }
    if path.contains(&0) {
        return Err(Fault::ValueNul);
    }
    if path.first() != Some(&b'/') {
        return Err(Fault::ValueRange);
    }
    Ok(bytes)
}

fn number(bytes: &[u8], at: usize) -> Result<u64, Fault> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes
        .map(|bytes| u64::from_le_bytes(*bytes))
        .ok_or(Fault::FieldSize)
}

fn decode_stamped(bytes: &[u8]) -> Result<StampedPath<'_>, Fault> {
    let (head, path) = bytes
        .split_at_checked(STAMP_BYTES)
        .ok_or(Fault::FieldSize)?;
    let mode = head.last_chunk().ok_or(Fault::FieldSize)?;
    Ok(StampedPath {
        stamp: Stamp {
            dev: number(head, 0)?,
            ino: number(head, 8)?,
            size: number(head, 16)?,
            modified: number(head, 24)?.cast_signed(),
            changed: number(head, 32)?.cast_signed(),
            mode: u32::from_le_bytes(*mode),
        },
        path: terminated(path)?,
    })
}

fn decode_place(bytes: &[u8]) -> Result<Place<'_>, Fault> {
    let (head, path) = bytes
        .split_at_checked(PLACE_BYTES)
        .ok_or(Fault::FieldSize)?;
    Ok(Place {
        dev: number(head, 0)?,
        ino: number(head, 8)?,
        path: terminated(path)?,
    })
}

fn decode_output(mut fields: FieldReader<'_>) -> Result<ReplayOutput<'_>, Fault> {
    let output = ReplayOutput {
        destination: fields.string(1, PATH_BYTES_MAX)?,
        kept: decode_stamped(fields.bytes(2)?)?,
        executable: fields.u8(3, 1)? == 1,
        manner: Manner::of(fields.u8(4, 2)?),
        digest: digest(fields.bytes(5)?)?,
    };
    fields.end()?;
    if output.destination.is_empty() {
        Err(Fault::ValueRange)
    } else {
        Ok(output)
    }
}
