//! Connections with other clients: one for both directions, as the protocol has it.
