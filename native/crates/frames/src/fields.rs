//! Fields within a frame or group: `u8 tag, u32 LE length, bytes`, tags ascending.

use crate::limits::{FRAME_BYTES_MAX, LIST_BYTES_MAX, LIST_ITEMS_MAX};

/// What can be wrong with a frame, or with a value that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    FrameEmpty,
    FrameTooLong,
    FrameLength,
    TypeUnknown,
    TagUnknown,
    TagOrder,
    FieldTruncated,
    FieldSize,
    FieldMissing,
    ListTruncated,
    ValueLimit,
    ValueNul,
    ValueRange,
    TextInvalid,
    Checksum,
}

/// The fault's name in the specification.
pub fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::FrameEmpty => "frame-empty",
        Fault::FrameTooLong => "frame-too-long",
        Fault::FrameLength => "frame-length",
        Fault::TypeUnknown => "type-unknown",
        Fault::TagUnknown => "tag-unknown",
        Fault::TagOrder => "tag-order",
        Fault::FieldTruncated => "field-truncated",
        Fault::FieldSize => "field-size",
        Fault::FieldMissing => "field-missing",
        Fault::ListTruncated => "list-truncated",
        Fault::ValueLimit => "value-limit",
        Fault::ValueNul => "value-nul",
        Fault::ValueRange => "value-range",
        Fault::TextInvalid => "text-invalid",
        Fault::Checksum => "checksum",
    }
}

const FIELD_HEADER_BYTES: usize = 5;
const LENGTH_BYTES: usize = 4;

/// Collects fields in ascending order of tags.
#[derive(Default)]
pub struct FieldWriter {
    bytes: Vec<u8>,
}

impl FieldWriter {
    pub fn raw(&mut self, tag: u8, value: &[u8]) -> Result<(), Fault> {
        let length = u32::try_from(value.len()).map_err(|_| Fault::FrameTooLong)?;
        if self.bytes.len() + FIELD_HEADER_BYTES + value.len() > FRAME_BYTES_MAX {
            return Err(Fault::FrameTooLong);
        }
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    pub fn u8(&mut self, tag: u8, value: u8) -> Result<(), Fault> {
        self.raw(tag, &[value])
    }

    pub fn u32(&mut self, tag: u8, value: u32) -> Result<(), Fault> {
        self.raw(tag, &value.to_le_bytes())
    }

    pub fn u64(&mut self, tag: u8, value: u64) -> Result<(), Fault> {
        self.raw(tag, &value.to_le_bytes())
    }

    /// Bytes without a zero byte.
    pub fn string(&mut self, tag: u8, value: &[u8], max: usize) -> Result<(), Fault> {
        check_string(value, max)?;
        self.raw(tag, value)
    }

    pub fn text(&mut self, tag: u8, value: &str, max: usize) -> Result<(), Fault> {
        if value.len() > max {
            return Err(Fault::ValueLimit);
        }
        self.raw(tag, value.as_bytes())
    }

    pub fn strings(
        &mut self,
        tag: u8,
        values: &[impl AsRef<[u8]>],
        item_max: usize,
    ) -> Result<(), Fault> {
        for value in values {
            check_string(value.as_ref(), item_max)?;
        }
        self.list(tag, values, LIST_BYTES_MAX)
    }

    pub fn list(
        &mut self,
        tag: u8,
        items: &[impl AsRef<[u8]>],
        bytes_max: usize,
    ) -> Result<(), Fault> {
        if items.len() > LIST_ITEMS_MAX {
            return Err(Fault::ValueLimit);
        }
        let bytes = items.iter().map(|item| item.as_ref().len() + LENGTH_BYTES);
        let mut coded = Vec::with_capacity(bytes.sum());
        for item in items.iter().map(AsRef::as_ref) {
            let length = u32::try_from(item.len()).map_err(|_| Fault::ValueLimit)?;
            coded.extend_from_slice(&length.to_le_bytes());
            coded.extend_from_slice(item);
            if coded.len() > bytes_max {
                return Err(Fault::ValueLimit);
            }
        }
        self.raw(tag, &coded)
    }

    pub fn group(&mut self, tag: u8, group: FieldWriter) -> Result<(), Fault> {
        self.raw(tag, &group.bytes)
    }

    /// The fields' bytes, for a list of groups.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// The whole frame.
    pub fn frame(self, frame_type: u8) -> Result<Vec<u8>, Fault> {
        let length = self.bytes.len() + 1;
        if length > FRAME_BYTES_MAX {
            return Err(Fault::FrameTooLong);
        }
        let coded_length = u32::try_from(length).map_err(|_| Fault::FrameTooLong)?;
        let mut frame = Vec::with_capacity(LENGTH_BYTES + length);
        frame.extend_from_slice(&coded_length.to_le_bytes());
        frame.push(frame_type);
        frame.extend_from_slice(&self.bytes);
        Ok(frame)
    }
}

fn check_string(value: &[u8], max: usize) -> Result<(), Fault> {
    if value.len() > max {
        return Err(Fault::ValueLimit);
    }
    if value.contains(&0) {
        return Err(Fault::ValueNul);
    }
    Ok(())
}

/// The fields of a frame or group; each is taken once, and `end` refuses the rest.
pub struct FieldReader<'a> {
    fields: Vec<(u8, &'a [u8])>,
    next: usize,
}

impl<'a> FieldReader<'a> {
    pub fn new(mut bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut fields = Vec::new();
        let mut last_tag: Option<u8> = None;
        while !bytes.is_empty() {
            let (header, rest) = bytes
                .split_at_checked(FIELD_HEADER_BYTES)
                .ok_or(Fault::FieldTruncated)?;
            let (&tag, length) = header.split_first().ok_or(Fault::FieldTruncated)?;
            let length = read_u32(length).ok_or(Fault::FieldTruncated)? as usize;
            let (value, rest) = rest.split_at_checked(length).ok_or(Fault::FieldTruncated)?;
            if last_tag.is_some_and(|last| tag <= last) {
                return Err(Fault::TagOrder);
            }
            last_tag = Some(tag);
            fields.push((tag, value));
            bytes = rest;
        }
        Ok(FieldReader { fields, next: 0 })
    }

    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        // Taken fields are swapped to the front, so what is left at the end is what nobody asked for.
        let position = self
            .fields
            .get(self.next..)?
            .iter()
            .position(|field| field.0 == tag)?;
        self.fields.swap(self.next, self.next + position);
        let value = self.fields.get(self.next)?.1;
        self.next += 1;
        Some(value)
    }

    pub fn optional_bytes(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.take(tag)
    }

    pub fn bytes(&mut self, tag: u8) -> Result<&'a [u8], Fault> {
        self.take(tag).ok_or(Fault::FieldMissing)
    }

    pub fn u8(&mut self, tag: u8, max: u8) -> Result<u8, Fault> {
        match self.take(tag).ok_or(Fault::FieldMissing)? {
            [value] if *value <= max => Ok(*value),
            [_] => Err(Fault::ValueRange),
            _ => Err(Fault::FieldSize),
        }
    }

    pub fn optional_u32(&mut self, tag: u8, max: u32) -> Result<Option<u32>, Fault> {
        let Some(bytes) = self.take(tag) else {
            return Ok(None);
        };
        let value = read_u32(bytes).ok_or(Fault::FieldSize)?;
        if value > max {
            return Err(Fault::ValueRange);
        }
        Ok(Some(value))
    }

    pub fn u32(&mut self, tag: u8, max: u32) -> Result<u32, Fault> {
        self.optional_u32(tag, max)?.ok_or(Fault::FieldMissing)
    }

    pub fn optional_u64(&mut self, tag: u8) -> Result<Option<u64>, Fault> {
        let Some(bytes) = self.take(tag) else {
            return Ok(None);
        };
        let array: [u8; 8] = bytes.try_into().map_err(|_| Fault::FieldSize)?;
        Ok(Some(u64::from_le_bytes(array)))
    }

    pub fn u64(&mut self, tag: u8) -> Result<u64, Fault> {
        self.optional_u64(tag)?.ok_or(Fault::FieldMissing)
    }

    /// A u64 that a JavaScript number holds.
    pub fn count(&mut self, tag: u8) -> Result<u64, Fault> {
        let value = self.u64(tag)?;
        if value >= 1 << 53 {
            return Err(Fault::ValueRange);
        }
        Ok(value)
    }

    pub fn optional_string(&mut self, tag: u8, max: usize) -> Result<Option<Vec<u8>>, Fault> {
        let Some(bytes) = self.take(tag) else {
            return Ok(None);
        };
        check_string(bytes, max)?;
        Ok(Some(bytes.to_vec()))
    }

    pub fn string(&mut self, tag: u8, max: usize) -> Result<Vec<u8>, Fault> {
        self.optional_string(tag, max)?.ok_or(Fault::FieldMissing)
    }

    pub fn optional_text(&mut self, tag: u8, max: usize) -> Result<Option<String>, Fault> {
        let Some(bytes) = self.take(tag) else {
            return Ok(None);
        };
        if bytes.len() > max {
            return Err(Fault::ValueLimit);
        }
        std::str::from_utf8(bytes)
            .map(|text| Some(text.to_owned()))
            .map_err(|_| Fault::TextInvalid)
    }

    pub fn text(&mut self, tag: u8, max: usize) -> Result<String, Fault> {
        self.optional_text(tag, max)?.ok_or(Fault::FieldMissing)
    }

    pub fn optional_list(
        &mut self,
        tag: u8,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<&'a [u8]>>, Fault> {
        let Some(mut bytes) = self.take(tag) else {
            return Ok(None);
        };
        if bytes.len() > bytes_max {
            return Err(Fault::ValueLimit);
        }
        let mut items = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes
                .split_at_checked(LENGTH_BYTES)
                .ok_or(Fault::ListTruncated)?;
            let length = read_u32(length).ok_or(Fault::ListTruncated)? as usize;
            let (item, rest) = rest.split_at_checked(length).ok_or(Fault::ListTruncated)?;
            if items.len() == items_max {
                return Err(Fault::ValueLimit);
            }
            items.push(item);
            bytes = rest;
        }
        Ok(Some(items))
    }

    pub fn list(
        &mut self,
        tag: u8,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<&'a [u8]>, Fault> {
        self.optional_list(tag, items_max, bytes_max)?
            .ok_or(Fault::FieldMissing)
    }

    pub fn optional_strings(
        &mut self,
        tag: u8,
        item_max: usize,
    ) -> Result<Option<Vec<Vec<u8>>>, Fault> {
        let Some(items) = self.optional_list(tag, LIST_ITEMS_MAX, LIST_BYTES_MAX)? else {
            return Ok(None);
        };
        let mut strings = Vec::with_capacity(items.len());
        for item in items {
            check_string(item, item_max)?;
            strings.push(item.to_vec());
        }
        Ok(Some(strings))
    }

    pub fn strings(&mut self, tag: u8, item_max: usize) -> Result<Vec<Vec<u8>>, Fault> {
        self.optional_strings(tag, item_max)?
            .ok_or(Fault::FieldMissing)
    }

    pub fn optional_group(&mut self, tag: u8) -> Result<Option<FieldReader<'a>>, Fault> {
        self.take(tag).map(FieldReader::new).transpose()
    }

    pub fn group(&mut self, tag: u8) -> Result<FieldReader<'a>, Fault> {
        self.optional_group(tag)?.ok_or(Fault::FieldMissing)
    }

    /// Refuses fields that nobody took.
    pub fn end(&self) -> Result<(), Fault> {
        if self.next < self.fields.len() {
            Err(Fault::TagUnknown)
        } else {
            Ok(())
        }
    }
}

/// Exactly four bytes, little-endian.
pub fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
