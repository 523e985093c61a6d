//! Names of contents at the desk: what lists and publishers say, and how contents are shown.

use std::sync::Arc;

use p2pbridge_nametable::{
    AboutFile, Binding, Content, MAX_CONTENT_NAMES, NameTable, Outcome, Proposal, Statement, What,
    digest,
};
use p2pbridge_proto::{Evidence, Name, v1};

use super::{NameDesk, NameFault, Proposed};

/// The most rows of a request of a list, and the most contents of a publication.
pub const MOST_ROWS: usize = 10_000;

/// The most contents of an answer.
const MOST_SHOWN: usize = 1_000;

/// The most letters of a source's name.
const MOST_SOURCE: usize = 200;

impl NameDesk {
    /// Binds names that were computed from bytes, and the description that was made of the same bytes.
    ///
    /// # Errors
    /// When it is not well formed, contradicts what is verified, or the disk does not take it.
    pub fn publish(
        &self,
        request: v1::PublishRequest,
        caller: &str,
    ) -> Result<(Vec<Content>, Option<Arc<Binding>>), NameFault> {
        let by = stated_by("publication", &request.source, caller);
        if request.contents.is_empty() || request.contents.len() > MOST_ROWS {
            let problem = format!("it takes 1 to {MOST_ROWS}, not {}", request.contents.len());
            return Err(NameFault::Content { label: "contents".to_owned(), problem });
        }
        let mut statements = Vec::with_capacity(request.contents.len());
        for (number, row) in (1..).zip(&request.contents) {
            let problem =
                |problem| NameFault::Content { label: format!("content {number}"), problem };
            let statement = statement(row, Evidence::Verified, &by).map_err(problem)?;
            if statement.length.is_none() {
                return Err(problem("its length is missing".to_owned()));
            }
            statements.push(statement);
        }
        let binding = match &request.description {
            None => {
                refused(&self.table.state(&statements)?)?;
                None
            }
            Some(item) => self.publish_as(item, &statements, &by, request.without_overlay)?,
        };
        let of = |statement: &Statement| self.table.content_of(statement.names.first()?);
        Ok((statements.iter().take(MOST_SHOWN).filter_map(of).collect(), binding))
    }

    /// Binds contents as the files of a description; gives no binding where that says nothing but what they are called.
    fn publish_as(
        &self,
        item: &v1::BindItem,
        statements: &[Statement],
        by: &Arc<str>,
        without_overlay: bool,
    ) -> Result<Option<Arc<Binding>>, NameFault> {
        let label = label_of(item, "the description");
        let mut proposal = match self.propose(item, label.clone(), by)? {
            Proposed::Binding(proposal) => proposal,
            Proposed::Names(_) => {
                refused(&self.table.state(statements)?)?;
                return Ok(None);
            }
        };
        if without_overlay && item.overlay.is_empty() {
            proposal.overlays.clear();
        }
        let filled = proposal.files.iter_mut().enumerate().filter(|(_, file)| file.length > 0);
        let (mut about, mut rest) = (Vec::new(), statements.iter().filter(|s| s.length != Some(0)));
        for (number, file) in filled {
            let fits = rest.next().filter(|statement| statement.length == Some(file.length));
            let Some(statement) = fits else {
                let problem = format!("`{}` is not the next of the contents", file.path);
                return Err(NameFault::Content { label, problem });
            };
            let differs = file.digest.is_some_and(|digest| {
                let rival = |n: &&Name| n.scheme() == digest.scheme() && **n != digest;
                statement.names.iter().any(|name| rival(&name))
            });
            if differs {
                let problem = format!("it says of `{}` what its bytes are not", file.path);
                return Err(NameFault::Content { label, problem });
            }
            file.digest = file.digest.or_else(|| strongest(&statement.names));
            about.push(AboutFile { proposal: 0, file: number, statement: statement.clone() });
        }
        if rest.next().is_some() {
            let problem = "it has fewer files than there are contents".to_owned();
            return Err(NameFault::Content { label, problem });
        }
        proposal.description = Some(self.blobs.put(&item.description)?);
        // Empty files have names too, and stand in no layout.
        let empty = statements.iter().filter(|statement| statement.length == Some(0)).cloned();
        refused(&self.table.state(&empty.collect::<Vec<_>>())?)?;
        let (bindings, _) = self.table.bind_with(&[proposal], &about, Evidence::Verified)?;
        bindings.into_iter().next().map(Some).ok_or(NameFault::Gone)
    }

    /// States what rows of a list say.
    ///
    /// # Errors
    /// When the disk does not take it; rows that are not taken are no error.
    pub fn import(
        &self,
        request: &v1::ImportNamesRequest,
        caller: &str,
    ) -> Result<v1::ImportNamesResponse, NameFault> {
        if request.rows.len() > MOST_ROWS {
            let problem = format!("it takes {MOST_ROWS} at most, not {}", request.rows.len());
            return Err(NameFault::Content { label: "rows".to_owned(), problem });
        }
        let by = stated_by("list", &request.source, caller);
        let mut answer = v1::ImportNamesResponse::default();
        let (mut statements, mut numbers) = (Vec::new(), Vec::new());
        for (number, row) in (0..).zip(&request.rows) {
            let read = match row.evidence() {
                v1::Evidence::Verified => {
                    Err("a list cannot say that it is verified: attested or hint".to_owned())
                }
                v1::Evidence::Hint => statement(row, Evidence::Hint, &by),
                v1::Evidence::Attested | v1::Evidence::Unspecified => {
                    statement(row, Evidence::Attested, &by)
                }
            };
            match read {
                Ok(statement) => {
                    statements.push(statement);
                    numbers.push(number);
                }
                Err(reason) => answer.refused.push(v1::RefusedRow { row: number, reason }),
            }
        }
        for (row, outcome) in numbers.into_iter().zip(self.table.state(&statements)?) {
            match outcome.what {
                What::Created => answer.created += 1,
                What::Extended => answer.extended += 1,
                What::Known => answer.known += 1,
                What::Refused(reason) => answer.refused.push(v1::RefusedRow { row, reason }),
            }
        }
        answer.refused.sort_by_key(|refused| refused.row);
        Ok(answer)
    }

    /// Binds names of one content together, beside descriptions or alone. Gives the bindings and the contents.
    pub(super) fn bind_contents(
        &self,
        proposals: &mut [Proposal],
        rows: &[(String, Statement)],
    ) -> Result<(Vec<Arc<Binding>>, Vec<Content>), NameFault> {
        let mut about = Vec::new();
        for (label, statement) in rows {
            let (proposal, file) = place(proposals, label, statement)?;
            let entry = &mut proposals[proposal].files[file];
            entry.digest = entry.digest.or_else(|| strongest(&statement.names));
            about.push(AboutFile { proposal, file, statement: statement.clone() });
        }
        let (bindings, ids) = self.table.bind_with(proposals, &about, Evidence::Attested)?;
        Ok((bindings, ids.iter().filter_map(|id| self.table.content(id)).collect()))
    }

    /// Binds names of one content that nobody has described.
    pub(super) fn bind_alone(
        &self,
        rows: Vec<(String, Statement)>,
    ) -> Result<Vec<Content>, NameFault> {
        let mut rows = rows.into_iter();
        let Some((_, mut all)) = rows.next() else { return Ok(Vec::new()) };
        let count = 1 + rows.len();
        for (label, row) in rows {
            if let (Some(one), Some(other)) = (all.length, row.length)
                && one != other
            {
                let problem = format!("it has {other} bytes, and what stands before it {one}");
                return Err(NameFault::Content { label, problem });
            }
            all.length = all.length.or(row.length);
            for name in row.names {
                if !all.names.contains(&name) {
                    all.names.push(name);
                }
            }
        }
        let outcomes = self.table.state(std::slice::from_ref(&all))?;
        refused(&outcomes)?;
        let id = outcomes.first().and_then(|outcome| outcome.content);
        let content = id.and_then(|id| self.table.content(&id)).ok_or(NameFault::Gone)?;
        Ok(vec![content; count])
    }
}

/// Which file of descriptions a statement is of: one that is named so itself; else the only one, or the only one of its
/// length, of the description that has most.
fn place(
    proposals: &[Proposal],
    label: &str,
    statement: &Statement,
) -> Result<(usize, usize), NameFault> {
    let fault = |problem: String| NameFault::Content { label: label.to_owned(), problem };
    let named = |proposal: &Proposal| {
        proposal.files.len() == 1
            && proposal.names.iter().any(|name| statement.names.contains(name))
    };
    if let Some(at) = proposals.iter().position(named) {
        return Ok((at, 0));
    }
    let largest = proposals.iter().enumerate().max_by_key(|(_, proposal)| proposal.files.len());
    let Some((at, proposal)) = largest else { return Err(fault("nothing to bind it to".into())) };
    let fits = |length: u64| length > 0 && statement.length.is_none_or(|wanted| wanted == length);
    let mut files = proposal.files.iter().enumerate().filter(|(_, file)| fits(file.length));
    match (files.next(), files.next()) {
        (Some((file, _)), None) => Ok((at, file)),
        (None, _) => {
            let length = statement.length.unwrap_or_default();
            Err(fault(format!("no file of {} has {length} bytes", proposal.label)))
        }
        (Some(_), Some(_)) => {
            let which = if statement.length.is_some() { " of this length" } else { "" };
            let files = &proposal.label;
            Err(fault(format!("{files} has several files{which}: it could be of any of them")))
        }
    }
}

/// A name by which bytes are told from others, the best of those given.
fn strongest(names: &[Name]) -> Option<Name> {
    let of_bytes = names.iter().filter(|name| name.scheme().is_of_bytes());
    of_bytes.max_by_key(|name| (name.scheme().is_strong(), name.digest().len())).copied()
}

/// The first statement that was refused, as a fault.
fn refused(outcomes: &[Outcome]) -> Result<(), NameFault> {
    let reason = (1..).zip(outcomes).find_map(|(number, outcome)| match &outcome.what {
        What::Refused(why) if outcomes.len() == 1 => Some(why.clone()),
        What::Refused(why) => Some(format!("content {number} of {}: {why}", outcomes.len())),
        _ => None,
    });
    reason.map_or(Ok(()), |why| Err(NameFault::Refused(why)))
}

/// Reads a statement.
pub(super) fn statement(
    row: &v1::Statement,
    evidence: Evidence,
    by: &Arc<str>,
) -> Result<Statement, String> {
    let count = row.names.len();
    if count > MAX_CONTENT_NAMES {
        return Err(format!("it has {count} names; it takes 1 to {MAX_CONTENT_NAMES}"));
    }
    let mut names = Vec::with_capacity(count);
    for name in &row.names {
        let name = Name::try_from(name).map_err(|error| error.to_string())?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Statement {
        content: None,
        names,
        length: row.length,
        title: row.title.clone(),
        evidence,
        stated_by: Arc::clone(by),
    })
}

/// What an item is called in errors.
pub(super) fn label_of(item: &v1::BindItem, otherwise: &str) -> String {
    match item.label.trim() {
        "" => otherwise.to_owned(),
        label => label.chars().take(256).collect(),
    }
}

fn stated_by(what: &str, source: &str, caller: &str) -> Arc<str> {
    let source: String = source.chars().filter(|c| !c.is_control()).take(MOST_SOURCE).collect();
    match source.trim() {
        "" => format!("{caller}, {what}").into(),
        source => format!("{caller}, {what} {source}").into(),
    }
}

/// A content as the API shows it.
#[must_use]
pub fn content_row(content: &Content) -> v1::Content {
    let names = content.names.iter().map(|known| v1::KnownName {
        name: Some(known.name.into()),
        urn: known.name.to_string(),
        evidence: v1::Evidence::from(known.evidence).into(),
        stated_by: known.stated_by.to_string(),
        state_time: Some(known.since.into()),
        unit: content
            .length
            .and_then(|length| digest::unit(known.name.scheme(), length))
            .unwrap_or_default(),
    });
    v1::Content {
        content_id: content.id.as_bytes().to_vec(),
        length: content.length,
        title: content.title.clone(),
        names: names.collect(),
    }
}

/// What is known of a name's contents, as the API shows it; at most `most`.
#[must_use]
pub fn content_rows(table: &NameTable, name: &Name, most: usize) -> Vec<v1::Content> {
    table.contents_of(name, most).iter().map(content_row).collect()
}
