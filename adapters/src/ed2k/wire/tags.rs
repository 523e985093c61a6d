//! Tags: named values, in the old form (a name behind two bytes of length) and the new one (a byte for the name).

use super::{Cursor, Hash, WireError, cursor::put_text};

/// The most tags of one list.
pub const MAX_TAGS: u32 = 256;

/// What a tag is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TagName {
    /// One of the known names.
    Id(u8),
    /// A name in letters.
    Text(String),
}

/// What a tag says.
#[derive(Debug, Clone, PartialEq)]
pub enum TagValue {
    /// Sixteen bytes (`01`).
    Hash(Hash),
    /// A text (`02`, and `11` to `20` for short ones).
    Text(String),
    /// A number of one, two, four or eight bytes (`09`, `08`, `03`, `0B`).
    Number(u64),
    /// A number with a point (`04`).
    Float(f32),
    /// Bytes (`05` to `07`, `0A`): nobody here reads them.
    Bytes(Vec<u8>),
}

/// A named value.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// What it is called.
    pub name: TagName,
    /// What it says.
    pub value: TagValue,
}

impl Tag {
    /// A text.
    pub fn text(id: u8, value: impl Into<String>) -> Self {
        Self { name: TagName::Id(id), value: TagValue::Text(value.into()) }
    }

    /// A number.
    pub fn number(id: u8, value: impl Into<u64>) -> Self {
        Self { name: TagName::Id(id), value: TagValue::Number(value.into()) }
    }

    /// The number, if it is the tag with this name and has one.
    #[must_use]
    pub fn as_number(&self, id: u8) -> Option<u64> {
        match (&self.name, &self.value) {
            (TagName::Id(name), TagValue::Number(value)) if *name == id => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is the tag with this name and has one.
    #[must_use]
    pub fn as_text(&self, id: u8) -> Option<&str> {
        match (&self.name, &self.value) {
            (TagName::Id(name), TagValue::Text(value)) if *name == id => Some(value),
            _ => None,
        }
    }

    /// Reads one tag, of either form.
    ///
    /// # Errors
    /// When it is cut, or of a type that nobody knows: what follows cannot be found then.
    pub fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let kind = from.u8("a tag's type")?;
        let name = if kind & 0x80 == 0 {
            let length = from.u16("a tag's name")?;
            match from.take("a tag's name", length.into())? {
                [id] => TagName::Id(*id),
                letters => TagName::Text(super::cursor::text(letters)),
            }
        } else {
            TagName::Id(from.u8("a tag's name")?)
        };
        let value = match kind & 0x7F {
            0x01 => TagValue::Hash(from.hash("a tag's hash")?),
            0x02 => TagValue::Text(from.text("a tag's text")?),
            0x03 => TagValue::Number(from.u32("a tag's number")?.into()),
            0x04 => TagValue::Float(f32::from_bits(from.u32("a tag's number")?)),
            0x05 => TagValue::Bytes(from.take("a tag's truth value", 1)?.to_vec()),
            0x06 => {
                let bits = usize::from(from.u16("a tag's bits")?);
                TagValue::Bytes(from.take("a tag's bits", bits / 8 + 1)?.to_vec())
            }
            0x07 => {
                let length = usize::try_from(from.u32("a tag's bytes")?).unwrap_or(usize::MAX);
                TagValue::Bytes(from.take("a tag's bytes", length)?.to_vec())
            }
            0x08 => TagValue::Number(from.u16("a tag's number")?.into()),
            0x09 => TagValue::Number(from.u8("a tag's number")?.into()),
            0x0A => {
                let length = from.u8("a tag's bytes")?;
                TagValue::Bytes(from.take("a tag's bytes", length.into())?.to_vec())
            }
            0x0B => TagValue::Number(from.u64("a tag's number")?),
            short @ 0x11..=0x20 => {
                let bytes = from.take("a tag's text", usize::from(short - 0x10))?;
                TagValue::Text(super::cursor::text(bytes))
            }
            other => return Err(from.bad("a tag", 1, format!("nobody knows type {other:#04x}"))),
        };
        Ok(Self { name, value })
    }

    /// Reads a list of tags behind four bytes of count.
    ///
    /// # Errors
    /// When one cannot be read, or there are more than [`MAX_TAGS`].
    pub fn read_list(from: &mut Cursor<'_>) -> Result<Vec<Self>, WireError> {
        let count = from.u32("the number of tags")?;
        if count > MAX_TAGS {
            let problem = format!("{count} tags; at most {MAX_TAGS} are read");
            return Err(from.bad("the number of tags", 4, problem));
        }
        (0..count).map(|_| Self::read(from)).collect()
    }

    /// Writes the tag in the old form, which everybody reads.
    pub fn put(&self, out: &mut Vec<u8>) {
        self.put_as(out, false);
    }

    /// Writes the tag in the new form, in as few bytes as it takes; one with a name in letters stays in the old form.
    pub fn put_new(&self, out: &mut Vec<u8>) {
        self.put_as(out, true);
    }

    fn put_as(&self, out: &mut Vec<u8>, new: bool) {
        let new = new && matches!(self.name, TagName::Id(_));
        let kind = match &self.value {
            TagValue::Hash(_) => 0x01,
            TagValue::Text(text) if new && (1..=16).contains(&text.len()) => {
                0x10 + u8::try_from(text.len()).unwrap_or(0)
            }
            TagValue::Text(_) => 0x02,
            TagValue::Number(number) if new && *number <= u8::MAX.into() => 0x09,
            TagValue::Number(number) if new && *number <= u16::MAX.into() => 0x08,
            TagValue::Number(number) if *number <= u32::MAX.into() => 0x03,
            TagValue::Number(_) => 0x0B,
            TagValue::Float(_) => 0x04,
            TagValue::Bytes(_) => 0x07,
        };
        match &self.name {
            TagName::Id(id) if new => out.extend_from_slice(&[kind | 0x80, *id]),
            TagName::Id(id) => out.extend_from_slice(&[kind, 1, 0, *id]),
            TagName::Text(name) => {
                out.push(kind);
                put_text(out, name);
            }
        }
        match &self.value {
            TagValue::Hash(hash) => out.extend_from_slice(hash),
            TagValue::Text(text) if kind == 0x02 => put_text(out, text),
            TagValue::Text(text) => out.extend_from_slice(text.as_bytes()),
            TagValue::Number(number) => {
                let bytes = number.to_le_bytes();
                let width = match kind {
                    0x09 => 1,
                    0x08 => 2,
                    0x03 => 4,
                    _ => 8,
                };
                out.extend_from_slice(bytes.get(..width).unwrap_or_default());
            }
            TagValue::Float(number) => out.extend_from_slice(&number.to_bits().to_le_bytes()),
            TagValue::Bytes(bytes) => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }

    /// Writes a list of tags behind four bytes of count.
    pub fn put_list(out: &mut Vec<u8>, tags: &[Self], new: bool) {
        out.extend_from_slice(&u32::try_from(tags.len()).unwrap_or(u32::MAX).to_le_bytes());
        for tag in tags {
            tag.put_as(out, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag() -> impl Strategy<Value = Tag> {
        let name =
            prop_oneof![any::<u8>().prop_map(TagName::Id), "[a-z]{2,20}".prop_map(TagName::Text)];
        let value = prop_oneof![
            any::<Hash>().prop_map(TagValue::Hash),
            ".{0,30}"
                .prop_filter("the mark of UTF-8 goes", |text| !text.starts_with('\u{feff}'))
                .prop_map(TagValue::Text),
            any::<u64>().prop_map(TagValue::Number),
            any::<u16>().prop_map(|number| TagValue::Number(number.into())),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(TagValue::Bytes),
        ];
        (name, value).prop_map(|(name, value)| Tag { name, value })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tags in prop::collection::vec(tag(), 0..8), new: bool) {
            let mut bytes = Vec::new();
            Tag::put_list(&mut bytes, &tags, new);
            prop_assert_eq!(Tag::read_list(&mut Cursor::new(&bytes)), Ok(tags));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tag::read_list(&mut Cursor::new(&bytes));
        }
    }
}
