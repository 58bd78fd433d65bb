//! The launcher protocol's frames, messages and plan file (docs/specs/launcher-protocol.md), and replay records
//! (docs/specs/replay.md). Pure coding: no socket, no file. Everything decoded here is the daemon's or a file's bytes; nothing in it panics on them.

mod decode;
mod encode;
mod fields;
mod limits;
mod message;
mod plan;
mod replay;

pub use decode::{decode_message, frame_length, parse_frame};
pub use encode::encode_message;
pub use fields::{Fault, fault_name};
pub use limits::*;
pub use message::*;
pub use plan::{
    Fallback, PLAN_TYPE, Plan, PlanCompiler, PlanImage, decode_plan, encode_plan, plan_version,
};
pub use replay::*;
