//! eD2k file links as descriptions, in the contract's words.
