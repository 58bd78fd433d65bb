//! The plan file: how to run a project's real compiler without the daemon.

use crate::decode::{absolute, decode_namespace, parse_frame};
use crate::encode::namespace_fields;
use crate::fields::{Fault, FieldReader, FieldWriter};
use crate::limits::*;
use crate::message::NamespaceRef;

/// Type byte of a plan file's frame.
pub const PLAN_TYPE: u8 = 64;

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
    /// The host's compiler may stand in.
    pub fallback_host: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub project_root: Vec<u8>,
    /// None: the host's compiler is the project's.
    pub image: Option<PlanImage>,
}

/// The bytes of a plan file.
pub fn encode_plan(plan: &Plan) -> Result<Vec<u8>, Fault> {
    let mut fields = FieldWriter::default();
    fields.u32(1, PROTOCOL_VERSION)?;
    fields.string(2, &plan.project_root, PATH_BYTES_MAX)?;
    let Some(image) = &plan.image else {
        return fields.frame(PLAN_TYPE);
    };
    fields.text(3, &image.digest, TEXT_BYTES_MAX)?;
    if let Some(namespace) = &image.namespace {
        fields.group(4, namespace_fields(namespace)?)?;
    }
    fields.strings(5, &image.sandbox_argv, ITEM_BYTES_MAX)?;
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
    fields.list(6, &compilers, FRAME_BYTES_MAX)?;
    fields.u8(7, u8::from(image.fallback_host))?;
    fields.frame(PLAN_TYPE)
}

/// Decodes a plan file; a fault on anything that is none, or of another version.
pub fn decode_plan(bytes: &[u8]) -> Result<Plan, Fault> {
    let (frame_type, fields) = parse_frame(bytes)?;
    if frame_type != PLAN_TYPE {
        return Err(Fault::TypeUnknown);
    }
    let mut fields = FieldReader::new(fields)?;
    if fields.u32(1, u32::MAX)? != PROTOCOL_VERSION {
        return Err(Fault::ValueRange);
    }
    let project_root = absolute(fields.string(2, PATH_BYTES_MAX)?)?;
    let image = match fields.optional_text(3, TEXT_BYTES_MAX)? {
        None => None,
        Some(digest) => {
            let namespace = decode_namespace(fields.optional_group(4)?)?;
            let sandbox_argv = fields.strings(5, ITEM_BYTES_MAX)?;
            let mut compilers = Vec::new();
            for item in fields.list(6, PLAN_COMPILERS_MAX, FRAME_BYTES_MAX)? {
                compilers.push(decode_compiler(FieldReader::new(item)?)?);
            }
            let fallback_host = fields.u8(7, 1)? == 1;
            Some(PlanImage {
                digest,
                namespace,
                sandbox_argv,
                compilers,
                fallback_host,
            })
        }
    };
    fields.end()?;
    Ok(Plan {
        project_root,
        image,
    })
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
