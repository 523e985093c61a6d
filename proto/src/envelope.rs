use std::time::SystemTime;

use crate::{Fault, OverlayId, Reply, Request};

/// The longest identity of a message, in bytes.
pub const MAX_MESSAGE_ID: usize = 128;

/// One unified message with what it carries on its way, so that no message loops and none outlives its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Identity of this message, unique at its origin; at most [`MAX_MESSAGE_ID`] bytes.
    pub id: String,
    /// Identity of the request that this message answers; empty on a request.
    pub correlation_id: String,
    /// The overlay by which the message entered the bridge, if it came by one.
    pub origin: Option<OverlayId>,
    /// How many more times the message may be passed on; at 0 it is handled where it is.
    pub hop_limit: u32,
    /// The moment after which nobody waits for an answer any more.
    pub deadline: Option<SystemTime>,
    /// What the message says.
    pub body: Body,
}

/// What a unified message says: of all bodies of the protobuf, those of which a tracker's conversation consists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A question.
    Request(Request),
    /// An answer.
    Reply(Reply),
    /// Why there is no answer.
    Fault(Fault),
}

impl Envelope {
    /// A message without identity, origin and deadline, which is not passed on.
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self {
            id: String::new(),
            correlation_id: String::new(),
            origin: None,
            hop_limit: 0,
            deadline: None,
            body,
        }
    }
}

impl From<Request> for Body {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Reply> for Body {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<Fault> for Body {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
