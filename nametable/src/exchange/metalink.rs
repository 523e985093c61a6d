//! Metalink 4 (RFC 5854): files with hashes of IANA's names. Names of other schemes stand in a magnet link, in a `metaurl`.

use std::{
    borrow::Cow,
    io::{self, BufRead, Write},
    mem,
};

use p2pbridge_proto::{Name, NameError, Scheme};
use quick_xml::{
    XmlVersion,
    escape::{escape, resolve_xml_entity},
    events::{BytesRef, BytesStart, Event},
    name::{Namespace, ResolveResult},
    reader::NsReader,
};

use super::{
    bounded::Bounded,
    magnet,
    row::{MAX_LINE, Problem, Row, RowError, set_length, shown},
};

/// The namespace of version 4 (RFC 5854 §1.2), and that of the versions before.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:metalink";
const OLD_NAMESPACE: &str = "http://www.metalinker.org/";
/// The deepest nesting of elements.
const MAX_DEPTH: usize = 32;

/// Reads the files of a Metalink, each as it ends.
pub(super) struct Reader<R: BufRead> {
    xml: NsReader<Bounded<R>>,
    buffer: Vec<u8>,
    state: State,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        let mut xml = NsReader::from_reader(Bounded::new(input));
        xml.config_mut().expand_empty_elements = true;
        xml.config_mut().check_end_names = true;
        Self { xml, buffer: Vec::new(), state: State::default(), ended: false }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let Self { xml, buffer, state, .. } = self;
            buffer.clear();
            xml.get_mut().allow(MAX_LINE);
            let line = xml.get_mut().line();
            let step = match xml.read_resolved_event_into(buffer) {
                Ok((_, Event::Eof)) => {
                    self.ended = true;
                    state.end()
                }
                Ok((namespace, event)) => state.take(&namespace, &event, line),
                Err(error) => Err(broken(&error)),
            };
            match step {
                Ok(None) => {}
                Ok(Some(row)) => return Some(row),
                Err(problem) => {
                    self.ended = true;
                    return Some(Err(RowError::new(line, problem)));
                }
            }
        }
        None
    }
}

/// What the text of an element is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Field {
    #[default]
    None,
    Size,
    Hash(Scheme),
    Magnet,
}

/// A `file` that is being read.
#[derive(Debug)]
struct File {
    row: Row,
    /// The title of its magnet link, which is exact; a file's name may not hold every letter.
    title: Option<String>,
    /// What is wrong with it, as soon as something is.
    wrong: Option<RowError>,
}

/// Where the reader is: in which element, and what it has of the file.
#[derive(Debug, Default)]
struct State {
    depth: usize,
    rooted: bool,
    file: Option<File>,
    field: Field,
    text: String,
}

impl State {
    /// Takes what comes next, which begins on this line. A file that ends is a row.
    fn take(
        &mut self,
        namespace: &ResolveResult<'_>,
        event: &Event<'_>,
        line: u64,
    ) -> Result<Option<Result<Row, RowError>>, Problem> {
        match event {
            Event::Start(element) => self.open(namespace, element, line)?,
            Event::End(_) => return Ok(self.close(line)),
            Event::Text(text) => self.text(&text.xml10_content(), line),
            Event::CData(text) => self.text(&text.xml10_content(), line),
            Event::GeneralRef(name) => self.text(&referenced(name)?, line),
            Event::DocType(_) => {
                let what = "it has a document type (DTD), which is not read".to_owned();
                return Err(Problem::Markup(what));
            }
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => {}
        }
        Ok(None)
    }

    fn open(
        &mut self,
        namespace: &ResolveResult<'_>,
        element: &BytesStart<'_>,
        line: u64,
    ) -> Result<(), Problem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = format!("its elements lie more than {MAX_DEPTH} deep");
            return Err(Problem::Markup(what));
        }
        let ours = *namespace == ResolveResult::Bound(Namespace(NAMESPACE));
        let local = element.local_name();
        let word = local.as_ref();
        if self.depth == 1 {
            return match mem::replace(&mut self.rooted, true) {
                true => Err(Problem::Markup("it has a second root".into())),
                false if ours && word == "metalink" => Ok(()),
                false => Err(no_metalink(namespace, element)),
            };
        }
        if self.depth == 2 && ours && word == "file" {
            let mut file = File { row: Row { line, ..Row::default() }, title: None, wrong: None };
            match attribute(element, "name") {
                Ok(Some(name)) => file.row.title = name.into_owned(),
                Ok(None) => file.fail(line, Problem::Form("a `file` has no `name`".into())),
                Err(problem) => file.fail(line, problem),
            }
            self.file = Some(file);
        }
        if self.depth == 3
            && ours
            && let Some(file) = &mut self.file
        {
            self.text.clear();
            self.field = field(word, element).unwrap_or_else(|problem| {
                file.fail(line, problem);
                Field::None
            });
        }
        Ok(())
    }

    fn close(&mut self, line: u64) -> Option<Result<Row, RowError>> {
        let depth = self.depth;
        self.depth = depth.saturating_sub(1);
        match depth {
            2 => {
                let file = self.file.take()?;
                if let Some(wrong) = file.wrong {
                    return Some(Err(wrong));
                }
                let row = Row { title: file.title.unwrap_or(file.row.title), ..file.row };
                let begun = row.line;
                Some(row.checked().map_err(|what| RowError::new(begun, what)))
            }
            3 => {
                let field = mem::take(&mut self.field);
                if let Some(file) = &mut self.file
                    && let Err(problem) = file.set(field, self.text.trim())
                {
                    file.fail(line, problem);
                }
                None
            }
            _ => None,
        }
    }

    fn text(&mut self, text: &str, line: u64) {
        let Some(file) = &mut self.file else { return };
        if self.depth != 3 || self.field == Field::None {
            return;
        }
        if self.text.len() + text.len() > MAX_LINE {
            file.fail(line, Problem::LongLine);
        } else {
            self.text.push_str(text);
        }
    }

    fn end(&self) -> Result<Option<Result<Row, RowError>>, Problem> {
        match (self.rooted, self.depth) {
            (false, _) => Err(Problem::Markup("it has no element: it is no Metalink".into())),
            (true, 0) => Ok(None),
            (true, _) => Err(Problem::Markup("it ends within an element".into())),
        }
    }
}

impl File {
    /// Takes down what is wrong; the first counts.
    fn fail(&mut self, line: u64, what: Problem) {
        self.wrong.get_or_insert(RowError::new(line, what));
    }

    fn set(&mut self, field: Field, text: &str) -> Result<(), Problem> {
        match field {
            Field::None => {}
            Field::Size => set_length(&mut self.row.length, text)?,
            Field::Hash(scheme) => self.row.names.push(Name::from_digest_text(scheme, text)?),
            Field::Magnet => {
                let is_magnet = text
                    .split_once(':')
                    .is_some_and(|(word, _)| word.eq_ignore_ascii_case("magnet"));
                let (row, title) = match magnet::parse_titled(text) {
                    _ if !is_magnet => return Ok(()),
                    Err(Problem::Name(NameError::EmptyMagnet)) => return Ok(()),
                    read => read?,
                };
                self.row.names.extend(row.names);
                if let Some(length) = row.length {
                    set_length(&mut self.row.length, &length.to_string())?;
                }
                self.title = self.title.take().or(title);
            }
        }
        // Enough to see that there are too many.
        self.row.names.truncate(1_000);
        Ok(())
    }
}

/// What an element within a `file` is for.
fn field(word: &str, element: &BytesStart<'_>) -> Result<Field, Problem> {
    Ok(match word {
        "size" => Field::Size,
        "hash" => match attribute(element, "type")? {
            Some(kind) if kind.eq_ignore_ascii_case("sha-1") => Field::Hash(Scheme::Sha1),
            Some(kind) if kind.eq_ignore_ascii_case("sha-256") => Field::Hash(Scheme::Sha256),
            Some(_) => Field::None,
            None => return Err(Problem::Form("a `hash` has no `type`".into())),
        },
        // With a name it describes several files, and this is one of them (RFC 5854 §4.2.8).
        "metaurl" if attribute(element, "name")?.is_none() => Field::Magnet,
        _ => Field::None,
    })
}

fn attribute<'a>(element: &'a BytesStart<'_>, word: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    let bad = |error: &dyn std::fmt::Display| {
        Problem::Form(format!("attribute `{word}`: {}", shown(&error.to_string())))
    };
    let Some(found) = element.try_get_attribute(word).map_err(|error| bad(&error))? else {
        return Ok(None);
    };
    found.normalized_value(XmlVersion::Implicit1_0).map(Some).map_err(|error| bad(&error))
}

/// What `&…;` stands for. Only what XML itself defines is known: there are no definitions.
fn referenced<'a>(name: &BytesRef<'_>) -> Result<Cow<'a, str>, Problem> {
    if let Ok(Some(letter)) = name.resolve_char_ref() {
        return Ok(letter.to_string().into());
    }
    let known = resolve_xml_entity(name).map(Cow::Borrowed);
    known.ok_or_else(|| Problem::Markup(format!("`&{};` is not defined", shown(name))))
}

/// Why a root is none of a Metalink 4.
fn no_metalink(namespace: &ResolveResult<'_>, root: &BytesStart<'_>) -> Problem {
    let old = *namespace == ResolveResult::Bound(Namespace(OLD_NAMESPACE))
        || attribute(root, "version")
            .is_ok_and(|version| version.is_some_and(|it| it.starts_with('3')));
    Problem::Markup(match old && root.local_name().as_ref() == "metalink" {
        true => "it is a Metalink of version 3; only version 4 (RFC 5854) is read".into(),
        false => format!(
            "its root is `{}`, not `metalink` of {NAMESPACE} (RFC 5854)",
            shown(root.name().as_ref())
        ),
    })
}

fn broken(error: &quick_xml::Error) -> Problem {
    match error {
        quick_xml::Error::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Problem::Markup(format!("a tag or a run of text is longer than {MAX_LINE} bytes"))
        }
        quick_xml::Error::Io(error) => Problem::Input(error.to_string()),
        error => Problem::Markup(shown(&error.to_string())),
    }
}

/// Writes what stands before the files.
pub(super) fn write_header(out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")?;
    writeln!(out, "<metalink xmlns=\"{NAMESPACE}\">\n  <generator>p2p-bridge</generator>")
}

/// Writes what stands behind the files.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"</metalink>\n")
}

/// Writes a row. All its names, and its title, are in the magnet link; RFC 5854 wants an address with each file.
pub(super) fn write(out: &mut impl Write, row: &Row, names: &[Name]) -> io::Result<()> {
    writeln!(out, "  <file name=\"{}\">", escape(file_name(&row.plain_title(), names)))?;
    if let Some(length) = row.length {
        writeln!(out, "    <size>{length}</size>")?;
    }
    for (scheme, kind) in [(Scheme::Sha1, "sha-1"), (Scheme::Sha256, "sha-256")] {
        if let Some(name) = names.iter().find(|name| name.scheme() == scheme) {
            writeln!(out, "    <hash type=\"{kind}\">{}</hash>", name.hex())?;
        }
    }
    let link = magnet::link(row, names);
    let untitled = if row.title.is_empty() { "&dn=" } else { "" };
    let link = escape(format!("{link}{untitled}"));
    writeln!(out, "    <metaurl mediatype=\"x-scheme-handler/magnet\">{link}</metaurl>\n  </file>")
}

/// A title as a file's name: without folders (RFC 5854 §4.1.2.1), and without letters that XML does not have.
fn file_name(title: &str, names: &[Name]) -> String {
    match title {
        "" | "." | ".." => names.first().map(Name::hex).unwrap_or_default(),
        title => title.replace(['/', '\\', '\u{FFFE}', '\u{FFFF}'], "_"),
    }
}
