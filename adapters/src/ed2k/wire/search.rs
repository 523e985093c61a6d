//! What a search looks for: a tree of conditions, in prefix order.

use super::{Cursor, TagName, WireError, cursor::put_text};

/// How deep conditions may be inside others: `a AND b AND c` is as deep as it is long.
pub const MAX_DEPTH: usize = 64;
/// The most conditions of a search, those that join others counted too.
pub const MAX_NODES: usize = 256;

/// What a file must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Both hold.
    And(Box<Self>, Box<Self>),
    /// One of them holds at least.
    Or(Box<Self>, Box<Self>),
    /// The first holds, and the second does not (`NOT` of the protocol has two sides).
    AndNot(Box<Self>, Box<Self>),
    /// Words of the file name; several stand for all of them.
    Words(String),
    /// A tag of the file says this.
    Text {
        /// The tag.
        tag: TagName,
        /// What it says.
        value: String,
    },
    /// A tag of the file has a number that compares so.
    Number {
        /// The tag.
        tag: TagName,
        /// How.
        comparison: Comparison,
        /// With what.
        value: u64,
    },
}

/// How a tag's number compares with another (`ED2K_SEARCH_OP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `00`.
    Equal,
    /// `01`: more; the clients that write it mean "at least".
    Greater,
    /// `02`: less; the clients that write it mean "at most".
    Less,
    /// `03`.
    AtLeast,
    /// `04`.
    AtMost,
    /// `05`.
    NotEqual,
}

impl Expression {
    /// Reads a tree.
    ///
    /// # Errors
    /// When it is cut, has something that is no condition, or is over [`MAX_DEPTH`] or [`MAX_NODES`].
    pub fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut left = MAX_NODES;
        Self::node(from, MAX_DEPTH, &mut left)
    }

    fn node(from: &mut Cursor<'_>, depth: usize, left: &mut usize) -> Result<Self, WireError> {
        let kind = from.u8("a search condition")?;
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(from.bad("a search condition", 1, format!("it is {MAX_DEPTH} deep")));
        };
        *left = left.checked_sub(1).ok_or_else(|| {
            from.bad("a search condition", 1, format!("there are more than {MAX_NODES}"))
        })?;
        Ok(match kind {
            0x00 => {
                let join: fn(Box<Self>, Box<Self>) -> Self = match from.u8("a search operator")? {
                    0x00 => Self::And,
                    0x01 => Self::Or,
                    0x02 => Self::AndNot,
                    other => {
                        let problem = format!("nobody knows {other:#04x}");
                        return Err(from.bad("a search operator", 1, problem));
                    }
                };
                let one = Self::node(from, deeper, left)?;
                join(Box::new(one), Box::new(Self::node(from, deeper, left)?))
            }
            0x01 => Self::Words(from.text("a search word")?),
            0x02 => {
                let value = from.text("a search text")?;
                Self::Text { tag: tag_name(from)?, value }
            }
            0x03 | 0x08 => {
                let value = match kind {
                    0x03 => from.u32("a search number")?.into(),
                    _ => from.u64("a search number")?,
                };
                let comparison = Comparison::read(from)?;
                Self::Number { tag: tag_name(from)?, comparison, value }
            }
            other => {
                let problem = format!("nobody knows {other:#04x}");
                return Err(from.bad("a search condition", 1, problem));
            }
        })
    }

    /// Writes the tree.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::And(one, other) => put_join(out, 0x00, one, other),
            Self::Or(one, other) => put_join(out, 0x01, one, other),
            Self::AndNot(one, other) => put_join(out, 0x02, one, other),
            Self::Words(words) => {
                out.push(0x01);
                put_text(out, words);
            }
            Self::Text { tag, value } => {
                out.push(0x02);
                put_text(out, value);
                put_tag_name(out, tag);
            }
            Self::Number { tag, comparison, value } => {
                match u32::try_from(*value) {
                    Ok(small) => {
                        out.push(0x03);
                        out.extend_from_slice(&small.to_le_bytes());
                    }
                    Err(_) => {
                        out.push(0x08);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
                out.push(*comparison as u8);
                put_tag_name(out, tag);
            }
        }
    }
}

impl Comparison {
    fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(match from.u8("a search comparison")? {
            0x00 => Self::Equal,
            0x01 => Self::Greater,
            0x02 => Self::Less,
            0x03 => Self::AtLeast,
            0x04 => Self::AtMost,
            0x05 => Self::NotEqual,
            other => {
                let problem = format!("nobody knows {other:#04x}");
                return Err(from.bad("a search comparison", 1, problem));
            }
        })
    }
}

fn put_join(out: &mut Vec<u8>, operator: u8, one: &Expression, other: &Expression) {
    out.extend_from_slice(&[0x00, operator]);
    one.put(out);
    other.put(out);
}

fn tag_name(from: &mut Cursor<'_>) -> Result<TagName, WireError> {
    let length = from.u16("a search tag")?;
    Ok(match from.take("a search tag", length.into())? {
        [id] => TagName::Id(*id),
        letters => TagName::Text(super::cursor::text(letters)),
    })
}

fn put_tag_name(out: &mut Vec<u8>, name: &TagName) {
    match name {
        TagName::Id(id) => out.extend_from_slice(&[1, 0, *id]),
        TagName::Text(name) => put_text(out, name),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn expression() -> impl Strategy<Value = Expression> {
        let text = "[a-zäß ]{2,12}";
        let name =
            prop_oneof![any::<u8>().prop_map(TagName::Id), "[a-z]{2,9}".prop_map(TagName::Text)];
        let comparison = prop::sample::select(vec![
            Comparison::Equal,
            Comparison::Greater,
            Comparison::Less,
            Comparison::AtLeast,
            Comparison::AtMost,
            Comparison::NotEqual,
        ]);
        let value = prop_oneof![any::<u32>().prop_map(u64::from), any::<u64>()];
        let leaf = prop_oneof![
            text.prop_map(Expression::Words),
            (name.clone(), text).prop_map(|(tag, value)| Expression::Text { tag, value }),
            (name, comparison, value).prop_map(|(tag, comparison, value)| Expression::Number {
                tag,
                comparison,
                value
            }),
        ];
        leaf.prop_recursive(5, 30, 2, |inner| {
            (0..3, inner.clone(), inner).prop_map(|(join, one, other)| {
                let (one, other) = (Box::new(one), Box::new(other));
                match join {
                    0 => Expression::And(one, other),
                    1 => Expression::Or(one, other),
                    _ => Expression::AndNot(one, other),
                }
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(expression in expression()) {
            let mut bytes = Vec::new();
            expression.put(&mut bytes);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(Expression::read(&mut cursor), Ok(expression));
            prop_assert_eq!(cursor.left(), 0);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(0u8..9, 0..300)) {
            let _ = Expression::read(&mut Cursor::new(&bytes));
        }
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_refused() {
        let deep = [0x00, 0x00].repeat(100_000);
        let error = Expression::read(&mut Cursor::new(&deep)).unwrap_err().to_string();
        assert!(error.contains("64 deep"), "{error}");
        // A full tree of depth 9 has 511 conditions.
        fn full(depth: u32) -> Expression {
            match depth {
                0 => Expression::Words("a".to_owned()),
                _ => Expression::And(Box::new(full(depth - 1)), Box::new(full(depth - 1))),
            }
        }
        let mut wide = Vec::new();
        full(8).put(&mut wide);
        let error = Expression::read(&mut Cursor::new(&wide)).unwrap_err().to_string();
        assert!(error.contains("more than 256"), "{error}");
    }
}
