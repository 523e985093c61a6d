//! Binds that come twice.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use p2pbridge_proto::v1::{BindRequest, BindResponse};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::super::fault;

const MOST_ANSWERS_KEPT: usize = 64;

/// The answers to the last Binds that had a `request_id`.
#[derive(Default)]
pub(super) struct Answered(Mutex<VecDeque<(Seen, BindResponse)>>);

/// A request, as far as it must be known again.
#[derive(PartialEq, Eq)]
pub(super) struct Seen {
    request_id: String,
    items: [u8; 32],
}

impl Seen {
    pub(super) fn of(request: &BindRequest) -> Self {
        let mut hash = Sha256::new();
        for item in &request.items {
            hash.update(item.encode_length_delimited_to_vec());
        }
        Self { request_id: request.request_id.clone(), items: hash.finalize().into() }
    }
}

impl Answered {
    pub(super) fn find(&self, request: &BindRequest) -> Result<Option<BindResponse>, Status> {
        if request.request_id.is_empty() {
            return Ok(None);
        }
        let seen = Seen::of(request);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.iter().find(|(known, _)| known.request_id == seen.request_id) {
            Some((known, answer)) if *known == seen => Ok(Some(answer.clone())),
            Some(_) => Err(fault::bad_field(
                "REQUEST_ID_REUSED",
                "request_id",
                "it was used for another request",
            )),
            None => Ok(None),
        }
    }

    pub(super) fn keep(&self, seen: Seen, answer: &BindResponse) {
        if seen.request_id.is_empty() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_ANSWERS_KEPT {
            kept.pop_front();
        }
        kept.push_back((seen, answer.clone()));
    }
}
