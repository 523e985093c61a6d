//! Greetings between clients.
