//! Search expressions ⇄ unified queries.

use p2pbridge_proto::{FileKind, Query};

use crate::ed2k::wire::{
    TagName,
    search::{Comparison, Expression},
    server::file_tag,
};

/// Types of files as clients write them (`ED2KFTSTR_*`).
const KINDS: [(&str, FileKind); 7] = [
    ("Audio", FileKind::Audio),
    ("Video", FileKind::Video),
    ("Image", FileKind::Image),
    ("Doc", FileKind::Document),
    ("Pro", FileKind::Program),
    ("Arc", FileKind::Archive),
    ("Iso", FileKind::DiskImage),
];
/// What clients look for as programs: they offer archives and images of disks as such.
const PROGRAMS: [FileKind; 3] = [FileKind::Program, FileKind::Archive, FileKind::DiskImage];

/// Which part of a file a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Name,
    Size,
    Type,
    Extension,
    Sources,
    Other,
}

/// A search in the unified form, and whether all of its conditions are in there. What is left out (of tags that the
/// bridge knows nothing of) lets the search find more.
///
/// # Errors
/// When nothing is left of it, or what is left cannot be said.
pub fn query_of_expression(expression: &Expression) -> Result<(Query, bool), &'static str> {
    let mut whole = true;
    let query = query(expression, &mut whole)?;
    let query = query.ok_or("the search has no condition that the bridge knows")?;
    if query.is_sound() { Ok((query, whole)) } else { Err("the search has too many conditions") }
}

/// `None` when nothing is known of a condition.
fn query(expression: &Expression, whole: &mut bool) -> Result<Option<Query>, &'static str> {
    let mut unknown = || {
        *whole = false;
        Ok(None)
    };
    Ok(match expression {
        Expression::And(one, other) => {
            let mut all = Vec::new();
            for side in [one, other] {
                match query(side, whole)? {
                    Some(Query::All(more)) => all.extend(more),
                    Some(one) => all.push(one),
                    None => {}
                }
            }
            match all.len() {
                0 => None,
                1 => all.pop(),
                _ => Some(Query::All(all)),
            }
        }
        Expression::Or(one, other) => {
            let mut any = Vec::new();
            for side in [one, other] {
                match query(side, whole)? {
                    Some(Query::Any(more)) => any.extend(more),
                    Some(one) => any.push(one),
                    None => return Ok(None),
                }
            }
            Some(Query::Any(any))
        }
        Expression::AndNot(one, not) => match (query(one, whole)?, query(not, whole)?) {
            (Some(one), Some(not)) => Some(Query::ButNot(Box::new(one), Box::new(not))),
            (one, None) => one,
            (None, Some(_)) => return Err("the search says only what files must not be"),
        },
        Expression::Words(words) if is_everything(words) => return unknown(),
        Expression::Words(words) => Some(Query::Words(words.clone())),
        Expression::Text { tag, value } => match about(tag) {
            About::Name => Some(Query::Words(value.clone())),
            About::Extension => Some(Query::Extension(value.trim_start_matches('.').to_owned())),
            About::Type => match KINDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)) {
                Some((_, FileKind::Program)) => {
                    Some(Query::Any(PROGRAMS.map(Query::Kind).to_vec()))
                }
                Some((_, kind)) => Some(Query::Kind(*kind)),
                None => return unknown(),
            },
            _ => return unknown(),
        },
        Expression::Number { tag, comparison, value } => match (about(tag), comparison) {
            (About::Size, Comparison::AtLeast | Comparison::Greater) => {
                Some(Query::MinSize(*value))
            }
            (About::Size, Comparison::AtMost | Comparison::Less) => Some(Query::MaxSize(*value)),
            (About::Size, Comparison::Equal) => {
                Some(Query::All(vec![Query::MinSize(*value), Query::MaxSize(*value)]))
            }
            (About::Sources, Comparison::AtLeast | Comparison::Greater) => {
                Some(Query::MinSources(u32::try_from(*value).unwrap_or(u32::MAX)))
            }
            (About::Type, Comparison::Equal) => {
                // As a number: audio is 1 (`ED2KFT_AUDIO`).
                const BY_NUMBER: [FileKind; 7] = [
                    FileKind::Audio,
                    FileKind::Video,
                    FileKind::Image,
                    FileKind::Program,
                    FileKind::Document,
                    FileKind::Archive,
                    FileKind::DiskImage,
                ];
                let at = usize::try_from(value.wrapping_sub(1)).unwrap_or(usize::MAX);
                match BY_NUMBER.get(at) {
                    Some(kind) => Some(Query::Kind(*kind)),
                    None => return unknown(),
                }
            }
            _ => return unknown(),
        },
    })
}

/// A unified query as a search.
#[must_use]
pub fn expression_of_query(query: &Query) -> Expression {
    let number =
        |id, comparison, value| Expression::Number { tag: TagName::Id(id), comparison, value };
    let text = |id, value: &str| Expression::Text { tag: TagName::Id(id), value: value.to_owned() };
    match query {
        Query::Any(list) if *list == PROGRAMS.map(Query::Kind) => text(file_tag::TYPE, "Pro"),
        Query::All(list) => joined(list, Expression::And),
        Query::Any(list) => joined(list, Expression::Or),
        Query::ButNot(one, not) => Expression::AndNot(
            Box::new(expression_of_query(one)),
            Box::new(expression_of_query(not)),
        ),
        Query::Words(words) => Expression::Words(words.clone()),
        Query::Kind(kind) => {
            let word = KINDS.iter().find(|row| row.1 == *kind).map_or("", |row| row.0);
            text(file_tag::TYPE, word)
        }
        Query::Extension(extension) => text(file_tag::FORMAT, extension),
        Query::MinSize(size) => number(file_tag::SIZE, Comparison::AtLeast, *size),
        Query::MaxSize(size) => number(file_tag::SIZE, Comparison::AtMost, *size),
        Query::MinSources(least) => {
            number(file_tag::SOURCES, Comparison::AtLeast, u64::from(*least))
        }
    }
}

type Join = fn(Box<Expression>, Box<Expression>) -> Expression;

fn joined(list: &[Query], join: Join) -> Expression {
    let mut parts = list.iter().rev().map(expression_of_query);
    let nothing = || Expression::Words(String::new());
    let last = parts.next().unwrap_or_else(nothing);
    parts.fold(last, |behind, part| join(Box::new(part), Box::new(behind)))
}

/// Whether words stand for every file.
fn is_everything(words: &str) -> bool {
    words.chars().all(|letter| letter == '*' || letter.is_whitespace())
}

fn about(tag: &TagName) -> About {
    match tag {
        TagName::Id(file_tag::NAME) => About::Name,
        TagName::Id(file_tag::SIZE) => About::Size,
        TagName::Id(file_tag::TYPE) => About::Type,
        TagName::Id(file_tag::FORMAT) => About::Extension,
        TagName::Id(file_tag::SOURCES) => About::Sources,
        TagName::Id(_) => About::Other,
        // eDonkey wrote names of tags in letters.
        TagName::Text(name) => match name.to_ascii_lowercase().as_str() {
            "filename" => About::Name,
            "size" | "filesize" => About::Size,
            "type" | "filetype" => About::Type,
            "format" | "fileformat" => About::Extension,
            "availability" | "sources" => About::Sources,
            _ => About::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Expression {
        Expression::Words(text.to_owned())
    }

    fn and(one: Expression, other: Expression) -> Expression {
        Expression::And(Box::new(one), Box::new(other))
    }

    #[test]
    fn what_a_client_asks_for_is_understood() {
        // `a AND (Video AND (> 1000 AND < 5 GiB))`, as aMule writes it.
        let size =
            |comparison, value| Expression::Number { tag: TagName::Id(2), comparison, value };
        let video = Expression::Text { tag: TagName::Id(3), value: "Video".to_owned() };
        let limits = and(size(Comparison::Greater, 1000), size(Comparison::Less, 5 << 30));
        let (query, whole) = query_of_expression(&and(words("a"), and(video, limits))).unwrap();
        let wanted = Query::All(vec![
            Query::Words("a".to_owned()),
            Query::Kind(FileKind::Video),
            Query::MinSize(1000),
            Query::MaxSize(5 << 30),
        ]);
        assert_eq!((&query, whole), (&wanted, true));
        let again = query_of_expression(&expression_of_query(&query)).unwrap();
        assert_eq!(again, (wanted, true));
    }

    #[test]
    fn programs_are_archives_and_disk_images_too() {
        let programs = Expression::Text { tag: TagName::Id(3), value: "Pro".to_owned() };
        let (query, _) = query_of_expression(&programs).unwrap();
        assert_eq!(query, Query::Any(PROGRAMS.map(Query::Kind).to_vec()));
        assert_eq!(expression_of_query(&query), programs);
    }

    #[test]
    fn conditions_of_which_nothing_is_known_let_more_be_found() {
        let bitrate = || Expression::Number {
            tag: TagName::Id(0xD4),
            comparison: Comparison::Greater,
            value: 128,
        };
        let a = Query::Words("a".to_owned());
        assert_eq!(query_of_expression(&and(words("a"), bitrate())), Ok((a.clone(), false)));
        let not = Expression::AndNot(Box::new(words("a")), Box::new(bitrate()));
        assert_eq!(query_of_expression(&not), Ok((a, false)));
        let or = Expression::Or(Box::new(words("a")), Box::new(bitrate()));
        assert!(query_of_expression(&or).is_err() && query_of_expression(&bitrate()).is_err());
        assert!(query_of_expression(&words("*")).is_err());
        let only_not = Expression::AndNot(Box::new(bitrate()), Box::new(words("a")));
        assert!(query_of_expression(&only_not).is_err());
        let many = (0..70).fold(words("x"), |behind, _| and(words("y"), behind));
        assert_eq!(query_of_expression(&many), Err("the search has too many conditions"));
    }
}
