//! Bencode (BEP 3): a zero-copy reader for hostile input, and a writer.
//!
//! The reader borrows from its input, knows the exact bytes of each list and dictionary (an info-hash is taken over
//! them), and says whether the input was canonical. It bounds depth and number of values; lengths are checked against
//! the input before anything is done with them.

use std::{collections::BTreeMap, fmt};

use thiserror::Error;

/// How much structure the reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many lists and dictionaries may lie in each other.
    pub depth: usize,
    /// How many values there may be in all, keys not counted.
    pub values: usize,
}

impl Limits {
    /// For messages of trackers and peers: 16 deep, 100,000 values.
    pub const MESSAGE: Self = Self { depth: 16, values: 100_000 };
    /// For .torrent files: 100 deep, 2,000,000 values.
    pub const METAINFO: Self = Self { depth: 100, values: 2_000_000 };
}

/// A value that borrows from the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer of 64 bits.
    Int(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list.
    List(List<'a>),
    /// A dictionary.
    Dict(Dict<'a>),
}

/// A list, and the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<'a> {
    raw: &'a [u8],
    items: Vec<Value<'a>>,
}

/// A dictionary, and the bytes that it was read from. No key occurs twice.
#[derive(Clone, PartialEq, Eq)]
pub struct Dict<'a> {
    raw: &'a [u8],
    entries: Vec<(&'a [u8], Value<'a>)>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    /// The value.
    pub value: Value<'a>,
    /// Whether a canonical writer would have written the same bytes: keys sorted, no leading zeros, no `-0`.
    pub canonical: bool,
    /// How many bytes of the input the value took.
    pub length: usize,
}

/// Why bytes are no bencode, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("byte {at}: {problem}")]
pub struct BencodeError {
    /// Offset of the offence from the start of the input.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with bencode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Problem {
    /// The input ends within a value.
    #[error("the input ends within a value")]
    Truncated,
    /// A byte with which no value begins.
    #[error("no value begins with byte 0x{0:02x}")]
    NoValue(u8),
    /// An integer without digits, or with something else among them.
    #[error("no integer")]
    BadInteger,
    /// An integer that does not fit into 64 bits.
    #[error("an integer beyond 64 bits")]
    IntegerRange,
    /// A string longer than what is left of the input.
    #[error("a string longer than what is left of the input")]
    StringLength,
    /// A key that is no string.
    #[error("a key that is no string")]
    BadKey,
    /// A key that is in its dictionary twice.
    #[error("a dictionary with the same key twice")]
    DuplicateKey,
    /// More lists and dictionaries in each other than allowed.
    #[error("nested too deep")]
    TooDeep,
    /// More values than allowed.
    #[error("too many values")]
    TooMany,
    /// Bytes behind the value.
    #[error("bytes behind the value")]
    Trailing,
}

impl<'a> Document<'a> {
    /// Reads a value that is the whole input.
    ///
    /// # Errors
    /// When the input is no bencode, exceeds the limits, or goes on behind the value.
    pub fn parse(input: &'a [u8], limits: Limits) -> Result<Self, BencodeError> {
        let document = Self::parse_prefix(input, limits)?;
        if document.length < input.len() {
            return Err(BencodeError { at: document.length, problem: Problem::Trailing });
        }
        Ok(document)
    }

    /// Reads a value with which the input begins (BEP 9 puts raw bytes behind one).
    ///
    /// # Errors
    /// When the input does not begin with bencode, or exceeds the limits.
    pub fn parse_prefix(input: &'a [u8], limits: Limits) -> Result<Self, BencodeError> {
        let mut reader = Reader { input, at: 0, values_left: limits.values, canonical: true };
        let value = reader.value(limits.depth)?;
        Ok(Self { value, canonical: reader.canonical, length: reader.at })
    }
}

impl<'a> Value<'a> {
    /// The integer, if it is one.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The integer, if it is one and not negative.
    #[must_use]
    pub fn uint(&self) -> Option<u64> {
        self.int().and_then(|int| u64::try_from(int).ok())
    }

    /// The string, if it is one.
    #[must_use]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The list, if it is one.
    #[must_use]
    pub fn list(&self) -> Option<&List<'a>> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The dictionary, if it is one.
    #[must_use]
    pub fn dict(&self) -> Option<&Dict<'a>> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// What it is, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "an integer",
            Self::Bytes(_) => "a string",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
        }
    }
}

impl<'a> List<'a> {
    /// The exact bytes that it was read from.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Its values.
    #[must_use]
    pub fn items(&self) -> &[Value<'a>] {
        &self.items
    }
}

impl<'a> Dict<'a> {
    /// The exact bytes that it was read from.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Its entries, by rising key.
    #[must_use]
    pub fn entries(&self) -> &[(&'a [u8], Value<'a>)] {
        &self.entries
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        let at = self.entries.binary_search_by(|(other, _)| (*other).cmp(key)).ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.iter().map(|(key, value)| (String::from_utf8_lossy(key), value));
        f.debug_map().entries(entries).finish()
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    values_left: usize,
    canonical: bool,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, at: usize, problem: Problem) -> Result<T, BencodeError> {
        Err(BencodeError { at, problem })
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        let ended = BencodeError { at: self.at, problem: Problem::Truncated };
        self.input.get(self.at).copied().ok_or(ended)
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, BencodeError> {
        let start = self.at;
        let first = self.peek()?;
        self.values_left = match self.values_left.checked_sub(1) {
            Some(left) => left,
            None => return self.fail(start, Problem::TooMany),
        };
        if matches!(first, b'l' | b'd') && depth == 0 {
            return self.fail(start, Problem::TooDeep);
        }
        match first {
            b'i' => self.int().map(Value::Int),
            b'0'..=b'9' => self.bytes().map(Value::Bytes),
            b'l' => self.list(depth - 1).map(Value::List),
            b'd' => self.dict(depth - 1).map(Value::Dict),
            other => self.fail(start, Problem::NoValue(other)),
        }
    }

    /// Digits up to a closing byte, which is read too.
    fn digits(&mut self, close: u8) -> Result<&'a [u8], BencodeError> {
        let start = self.at;
        loop {
            match self.peek()? {
                byte if byte.is_ascii_digit() => self.at += 1,
                byte if byte == close && self.at > start => break,
                _ => return self.fail(self.at, Problem::BadInteger),
            }
        }
        let digits = self.since(start);
        self.canonical &= digits.len() == 1 || digits.first() != Some(&b'0');
        self.at += 1;
        Ok(digits)
    }

    fn int(&mut self) -> Result<i64, BencodeError> {
        self.at += 1;
        let start = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let mut value: i64 = 0;
        for digit in self.digits(b'e')? {
            let digit = i64::from(digit - b'0');
            let signed = if negative { -digit } else { digit };
            value = match value.checked_mul(10).and_then(|value| value.checked_add(signed)) {
                Some(value) => value,
                None => return self.fail(start, Problem::IntegerRange),
            };
        }
        self.canonical &= !(negative && value == 0);
        Ok(value)
    }

    fn bytes(&mut self) -> Result<&'a [u8], BencodeError> {
        let start = self.at;
        let too_long = BencodeError { at: start, problem: Problem::StringLength };
        let mut length: usize = 0;
        for digit in self.digits(b':')? {
            length = length
                .checked_mul(10)
                .and_then(|length| length.checked_add(usize::from(digit - b'0')))
                .ok_or(too_long)?;
        }
        let end = self.at.checked_add(length).ok_or(too_long)?;
        let bytes = self.input.get(self.at..end).ok_or(too_long)?;
        self.at = end;
        Ok(bytes)
    }

    fn list(&mut self, depth: usize) -> Result<List<'a>, BencodeError> {
        let start = self.at;
        self.at += 1;
        let mut items = Vec::new();
        while self.peek()? != b'e' {
            items.push(self.value(depth)?);
        }
        self.at += 1;
        Ok(List { raw: self.since(start), items })
    }

    fn dict(&mut self, depth: usize) -> Result<Dict<'a>, BencodeError> {
        let start = self.at;
        self.at += 1;
        let mut entries: Vec<(&'a [u8], Value<'a>)> = Vec::new();
        let mut sorted = true;
        while self.peek()? != b'e' {
            if !self.peek()?.is_ascii_digit() {
                return self.fail(self.at, Problem::BadKey);
            }
            let key = self.bytes()?;
            sorted &= entries.last().is_none_or(|(before, _)| *before < key);
            let value = self.value(depth)?;
            entries.push((key, value));
        }
        self.at += 1;
        if !sorted {
            self.canonical = false;
            entries.sort_by_key(|(key, _)| *key);
            let mut pairs = entries.iter().zip(entries.iter().skip(1));
            if pairs.any(|((one, _), (other, _))| one == other) {
                return self.fail(start, Problem::DuplicateKey);
            }
        }
        Ok(Dict { raw: self.since(start), entries })
    }
}

/// Writes canonical bencode.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

/// Writes the entries of one dictionary, in any order; a key given twice keeps the last value.
#[derive(Debug, Default)]
pub struct DictEncoder {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Encoder {
    /// Writes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Writes an integer.
    pub fn int(&mut self, value: i64) {
        self.out.extend_from_slice(format!("i{value}e").as_bytes());
    }

    /// Writes an integer that is not negative.
    pub fn uint(&mut self, value: u64) {
        self.out.extend_from_slice(format!("i{value}e").as_bytes());
    }

    /// Writes a string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.out.extend_from_slice(format!("{}:", value.len()).as_bytes());
        self.out.extend_from_slice(value);
    }

    /// Writes bytes that are bencode already.
    pub fn raw(&mut self, bencoded: &[u8]) {
        self.out.extend_from_slice(bencoded);
    }

    /// Writes a list of what the closure writes.
    pub fn list(&mut self, write: impl FnOnce(&mut Self)) {
        self.out.push(b'l');
        write(self);
        self.out.push(b'e');
    }

    /// Writes a dictionary of what the closure enters.
    pub fn dict(&mut self, write: impl FnOnce(&mut DictEncoder)) {
        let mut dict = DictEncoder::default();
        write(&mut dict);
        self.out.push(b'd');
        for (key, value) in dict.entries {
            self.bytes(&key);
            self.out.extend_from_slice(&value);
        }
        self.out.push(b'e');
    }
}

impl DictEncoder {
    /// Enters what the closure writes: exactly one value.
    pub fn entry(&mut self, key: &[u8], write: impl FnOnce(&mut Encoder)) {
        let mut value = Encoder::new();
        write(&mut value);
        self.entries.insert(key.to_vec(), value.finish());
    }

    /// Enters an integer.
    pub fn int(&mut self, key: &[u8], value: i64) {
        self.entry(key, |encoder| encoder.int(value));
    }

    /// Enters an integer that is not negative.
    pub fn uint(&mut self, key: &[u8], value: u64) {
        self.entry(key, |encoder| encoder.uint(value));
    }

    /// Enters a string.
    pub fn bytes(&mut self, key: &[u8], value: &[u8]) {
        self.entry(key, |encoder| encoder.bytes(value));
    }
}

/// The bencode of a dictionary of what the closure enters.
#[must_use]
pub fn encode_dict(write: impl FnOnce(&mut DictEncoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.dict(write);
    encoder.finish()
}

#[cfg(test)]
#[path = "bencode_tests.rs"]
mod tests;
