//! Captured tracker messages: recognised, decoded, unified, and what is lost.
