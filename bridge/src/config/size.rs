use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// A number of bytes: an integer, or a text such as `"10 GiB"`, `"500MB"`, `"64 KiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, as an integer or as a text with KiB, MiB, GiB, TiB, kB, MB, GB or TB")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                let value = de::Unexpected::Signed(bytes);
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::invalid_value(value, &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| format!("`{text}` is no number of bytes, such as 65536 or 64KiB"))
    }
}

fn parse(text: &str) -> Option<ByteSize> {
    let upper = text.trim().to_ascii_uppercase();
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((upper.strip_suffix(unit)?, *factor)))
        .unwrap_or((&upper, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(factor).map(ByteSize)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&human(self.0))
    }
}

/// A number of bytes for people: `1.50 MiB`; whole bytes below 1 KiB.
#[must_use]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut power = usize::try_from(bytes.ilog2() / 10).unwrap_or(1);
    // In hundredths, rounded; what would be shown as 1024.00 goes to the next unit.
    let hundredths = |power: usize| {
        let unit = 1u128 << (10 * power);
        (u128::from(bytes) * 100 + unit / 2) / unit
    };
    if hundredths(power) >= 102_400 && power < UNITS.len() {
        power += 1;
    }
    let shown = hundredths(power);
    format!("{}.{:02} {}", shown / 100, shown % 100, UNITS[power - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_sizes() {
        assert_eq!(parse("10 GiB"), Some(ByteSize(10 << 30)));
        assert_eq!(parse("500MB"), Some(ByteSize(500_000_000)));
        assert_eq!(parse("7"), Some(ByteSize(7)));
        assert_eq!(parse("7 B"), Some(ByteSize(7)));
        for bad in ["", "GiB", "-1", "1.5 MiB", "99999999999 TiB", "1 XB"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(1024), "1.00 KiB");
        assert_eq!(human(3 << 19), "1.50 MiB");
        assert_eq!(human((1 << 20) - 1), "1.00 MiB");
        assert_eq!(human(u64::MAX), "16.00 EiB");
    }
}
