//! The plan file: how to run a project's real compiler without the daemon.

use crate::decode::{absolute, decode_namespace, parse_frame};
use crate::encode::namespace_fields;
use crate::fields::{Fault, FieldReader, FieldWriter};
use crate::limits::*;
use crate::message::NamespaceRef;

/// Type byte of a plan file's frame.
pub const PLAN_TYPE: u8 = 64;

/// What may run when neither a worker nor the image can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The image's compiler alone.
    Image = 0,
    /// The host's compiler may stand in.
    Host = 1,
    /// Nothing runs here.
    None = 2,
}

impl Fallback {
    /// The policy by its name in the configuration.
    pub fn parse(name: &[u8]) -> Option<Fallback> {
        match name {
            b"image" => Some(Fallback::Image),
            b"host" => Some(Fallback::Host),
            b"none" => Some(Fallback::None),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Fallback::Image => "image",
            Fallback::Host => "host",
            Fallback::None => "none",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanCompiler {
    pub name: Vec<u8>,
    /// Absolute path in the image.
    pub path: Vec<u8>,
    /// Put behind argv[0].
    pub arguments: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanImage {
    pub digest: String,
    pub namespace: Option<NamespaceRef>,
    pub sandbox_argv: Vec<Vec<u8>>,
    pub compilers: Vec<PlanCompiler>,
    pub fallback: Fallback,
    /// Where the unpacked image is on the host.
    pub root: Vec<u8>,
    /// Folders in the image in which it keeps its programs, in the order of its PATH.
    pub program_folders: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub project_root: Vec<u8>,
    /// The project's configuration file, from which the plan was made.
    pub configuration: Vec<u8>,
    /// SHA-256 of what stood in it, in hex; none when there was no such file.
    pub configuration_digest: Option<String>,
    /// None: the host's compiler is the project's.
    pub image: Option<PlanImage>,
}

/// The bytes of a plan file.
pub fn encode_plan(plan: &Plan) -> Result<Vec<u8>, Fault> {
    let mut fields = FieldWriter::default();
    fields.u32(1, PLAN_VERSION)?;
    fields.string(2, &plan.project_root, PATH_BYTES_MAX)?;
    fields.string(3, &plan.configuration, PATH_BYTES_MAX)?;
    if let Some(digest) = &plan.configuration_digest {
        fields.text(4, digest, TEXT_BYTES_MAX)?;
    }
    let Some(image) = &plan.image else {
        return fields.frame(PLAN_TYPE);
    };
    fields.text(5, &image.digest, TEXT_BYTES_MAX)?;
    if let Some(namespace) = &image.namespace {
        fields.group(6, namespace_fields(namespace)?)?;
    }
    fields.strings(7, &image.sandbox_argv, ITEM_BYTES_MAX)?;
    let mut compilers = Vec::with_capacity(image.compilers.len());
    for compiler in &image.compilers {
        let mut group = FieldWriter::default();
        group.string(1, &compiler.name, PATH_BYTES_MAX)?;
        group.string(2, &compiler.path, PATH_BYTES_MAX)?;
        group.strings(3, &compiler.arguments, ITEM_BYTES_MAX)?;
        compilers.push(group.finish());
    }
    if compilers.len() > PLAN_COMPILERS_MAX {
        return Err(Fault::ValueLimit);
    }
    fields.list(8, &compilers, FRAME_BYTES_MAX)?;
    fields.u8(9, image.fallback as u8)?;
    fields.string(10, &image.root, PATH_BYTES_MAX)?;
    fields.strings(11, &image.program_folders, PATH_BYTES_MAX)?;
    fields.frame(PLAN_TYPE)
}

/// Decodes a plan file; a fault on anything that is none, or of another version.
pub fn decode_plan(bytes: &[u8]) -> Result<Plan, Fault> {
    let (frame_type, fields) = parse_frame(bytes)?;
    if frame_type != PLAN_TYPE {
        return Err(Fault::TypeUnknown);
    }
    let mut fields = FieldReader::new(fields)?;
    if fields.u32(1, u32::MAX)? != PLAN_VERSION {
        return Err(Fault::ValueRange);
    }
    let project_root = absolute(fields.string(2, PATH_BYTES_MAX)?)?;
    let configuration = absolute(fields.string(3, PATH_BYTES_MAX)?)?;
    let configuration_digest = fields.optional_text(4, TEXT_BYTES_MAX)?;
    let image = match fields.optional_text(5, TEXT_BYTES_MAX)? {
        None => None,
        Some(digest) => {
            let namespace = decode_namespace(fields.optional_group(6)?)?;
            let sandbox_argv = fields.strings(7, ITEM_BYTES_MAX)?;
            let mut compilers = Vec::new();
            for item in fields.list(8, PLAN_COMPILERS_MAX, FRAME_BYTES_MAX)? {
                compilers.push(decode_compiler(FieldReader::new(item)?)?);
            }
            let fallback = match fields.u8(9, 2)? {
                0 => Fallback::Image,
                1 => Fallback::Host,
                _ => Fallback::None,
            };
            let root = absolute(fields.string(10, PATH_BYTES_MAX)?)?;
            let program_folders = fields.strings(11, PATH_BYTES_MAX)?;
            Some(PlanImage {
                digest,
                namespace,
                sandbox_argv,
                compilers,
                fallback,
                root,
                program_folders,
            })
        }
    };
    fields.end()?;
    Ok(Plan {
        project_root,
        configuration,
        configuration_digest,
        image,
    })
}

/// The version of a plan file; none of what is no plan.
pub fn plan_version(bytes: &[u8]) -> Option<u32> {
    let (frame_type, fields) = parse_frame(bytes).ok()?;
    let mut fields = FieldReader::new(fields).ok()?;
    (frame_type == PLAN_TYPE)
        .then(|| fields.u32(1, u32::MAX).ok())
        .flatten()
}

fn decode_compiler(mut fields: FieldReader) -> Result<PlanCompiler, Fault> {
    let compiler = PlanCompiler {
        name: fields.string(1, PATH_BYTES_MAX)?,
        path: absolute(fields.string(2, PATH_BYTES_MAX)?)?,
        arguments: fields.strings(3, ITEM_BYTES_MAX)?,
    };
    fields.end()?;
    Ok(compiler)
}
