//! Search expressions.
