//! Errors as gRPC gives them: a code, a sentence, and the details that `google.rpc` has words for.

use std::{collections::HashMap, time::Duration};

use p2pbridge_nametable::{BindError, StoreError};
use p2pbridge_proto::{ErrorCode, Fault, Name};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{names::NameFault, status::ledger::LedgerError};

/// The domain of all reasons.
pub const DOMAIN: &str = "p2p-bridge";

const RETRY: Duration = Duration::from_secs(5);

fn details(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

fn plain(code: Code, reason: &str, text: impl Into<String>) -> Status {
    Status::with_error_details(code, text, details(reason))
}

/// A field of the request has a value that it cannot have: INVALID_ARGUMENT with `BadRequest`.
#[must_use]
pub fn bad_field(reason: &str, field: &str, problem: impl Into<String>) -> Status {
    let problem = problem.into();
    let mut details = details(reason);
    details.add_bad_request_violation(field, problem.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {problem}"), details)
}

/// Something that was asked for is not there: NOT_FOUND with `ResourceInfo`.
#[must_use]
pub fn not_found(kind: &str, which: &str, text: impl Into<String>) -> Status {
    let text = text.into();
    let mut details = details(&format!("UNKNOWN_{}", kind.to_uppercase()));
    details.set_resource_info(kind, which, "", text.clone());
    Status::with_error_details(Code::NotFound, text, details)
}

/// A name is not known.
#[must_use]
pub fn unknown_name(name: &Name) -> Status {
    let text = format!("{name} is not known here: bind, publish or import it first");
    not_found("name", &name.to_string(), text)
}

/// It is not known how a name cuts its bytes: FAILED_PRECONDITION.
#[must_use]
pub fn no_layout(name: &Name) -> Status {
    let text = format!("how {name} cuts its bytes is not known: bind its description first");
    plain(Code::FailedPrecondition, "NO_LAYOUT", text)
}

/// It may work later: UNAVAILABLE with `RetryInfo`.
#[must_use]
pub fn unavailable(reason: &str, text: impl Into<String>) -> Status {
    let mut details = details(reason);
    details.set_retry_info(Some(RETRY));
    Status::with_error_details(Code::Unavailable, text, details)
}

/// A fault of the bridge.
#[must_use]
pub fn internal(text: impl Into<String>) -> Status {
    plain(Code::Internal, "INTERNAL", text)
}

impl From<NameFault> for Status {
    fn from(fault: NameFault) -> Self {
        let text = fault.to_string();
        match fault {
            NameFault::Description { .. } => bad_field("BAD_DESCRIPTION", "items", text),
            NameFault::Private { .. } => plain(Code::FailedPrecondition, "PRIVATE", text),
            NameFault::UnknownOverlay { overlay, .. } => not_found("overlay", &overlay, text),
            NameFault::OtherProtocol { .. } => bad_field("OTHER_PROTOCOL", "items.overlay", text),
            NameFault::Bind(error) => refused(&error),
            NameFault::Content { .. } => bad_field("BAD_CONTENT", "content", text),
            NameFault::Refused(_) => plain(Code::FailedPrecondition, "CONFLICT", text),
            NameFault::Gone => plain(Code::Aborted, "GONE", text),
            NameFault::Store(error) => store(&error),
            NameFault::Blob(_) => unavailable("DISK", text),
            NameFault::NoDescription(_) => plain(Code::FailedPrecondition, "NO_DESCRIPTION", text),
        }
    }
}

/// What a tracker said, or the bridge in its place.
#[must_use]
pub fn said(fault: Fault) -> Status {
    let text = fault.text;
    match fault.code {
        ErrorCode::BadRequest => bad_field("BAD_REQUEST", "search", text),
        ErrorCode::UnknownName => plain(Code::NotFound, "UNKNOWN_NAME", text),
        ErrorCode::Forbidden => plain(Code::PermissionDenied, "FORBIDDEN", text),
        ErrorCode::Unsupported => plain(Code::FailedPrecondition, "UNSUPPORTED", text),
        ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::BadAnswer => {
            unavailable("TRACKER", text)
        }
        ErrorCode::Internal => internal(text),
    }
}

fn refused(error: &BindError) -> Status {
    let text = error.to_string();
    match error {
        BindError::Conflict { name, .. } => {
            let mut details = details("CONFLICT");
            details.set_resource_info("name", name.to_string(), "", text.clone());
            Status::with_error_details(Code::FailedPrecondition, text, details)
        }
        BindError::Store(error) => store(error),
        BindError::Statement(_) => plain(Code::FailedPrecondition, "CONFLICT", text),
        BindError::Random(_) => internal(text),
        BindError::SameName { .. } => bad_field("SAME_NAME", "items", text),
        BindError::NoCounterpart { .. } => bad_field("NO_COUNTERPART", "items", text),
        BindError::DigestsDiffer { .. } => bad_field("DIGESTS_DIFFER", "items", text),
        _ => bad_field("BAD_ITEMS", "items", text),
    }
}

/// The name table's store did not take a change.
#[must_use]
pub fn store(error: &StoreError) -> Status {
    unavailable("NAME_STORE", error.to_string())
}

/// The ledger did not give its records.
#[must_use]
pub fn ledger(error: &LedgerError) -> Status {
    match error {
        LedgerError::Damaged(_) => plain(Code::DataLoss, "LEDGER_DAMAGED", error.to_string()),
        _ => unavailable("LEDGER", error.to_string()),
    }
}
