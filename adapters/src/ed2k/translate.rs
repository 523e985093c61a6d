//! Native messages ⇄ unified ones. Pure.
