//! One JSON object per line on stderr, as the other programs of hpcc log.
use serde_json::{Map, Value};

/// Writes a line; a full or closed stderr is nobody's fault.
pub fn line(level: &str, event: &str, fields: &[(&str, &str)]) {
    let mut object = Map::new();
    object.insert("level".into(), Value::from(level));
    object.insert("event".into(), Value::from(event));
    for (name, value) in fields {
        object.insert((*name).into(), Value::from(*value));
    }
    let mut text = Value::Object(object).to_string();
    text.push('\n');
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
}

pub fn info(event: &str, fields: &[(&str, &str)]) {
    line("info", event, fields);
}

pub fn warn(event: &str, fields: &[(&str, &str)]) {
    line("warn", event, fields);
}
