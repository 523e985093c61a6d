//! Messages between client and server over UDP.
