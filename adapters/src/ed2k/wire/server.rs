//! Messages between client and server over TCP.
