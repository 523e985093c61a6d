//! `[overlays.ed2k.<id>]`: how an eD2k overlay is configured.
