//! What is said of clients beside their addresses, and by whom: a client's own greeting counts for more than a server's
//! word, and that for more than another client's.

use std::{collections::HashMap, net::SocketAddr};

use super::super::wire::{Hash, hello::Crypt};

/// Clients of which one kind of teller has said something; over it, what was said first is forgotten.
const MAX_HINTS: usize = 10_000;

/// What is said of a client beside its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hint {
    /// Its user hash.
    pub(crate) hash: Option<Hash>,
    /// What it wants of obfuscation.
    pub(crate) crypt: Crypt,
}

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teller {
    /// The client itself, when it was met.
    Itself,
    /// A server.
    Server,
    /// Another client.
    Client,
}

/// What was said of clients. No kind of teller can make what another one has said be forgotten.
#[derive(Debug, Default)]
pub(super) struct Hints {
    themselves: Said,
    servers: Said,
    clients: Said,
}

#[derive(Debug, Default)]
struct Said {
    hints: HashMap<SocketAddr, (u64, Hint)>,
    count: u64,
}

impl Hints {
    /// Takes down what is said of a client. A user hash of zeros is none.
    pub(super) fn note(&mut self, teller: Teller, endpoint: SocketAddr, hint: Hint) {
        let said = match teller {
            Teller::Itself => &mut self.themselves,
            Teller::Server => &mut self.servers,
            Teller::Client => &mut self.clients,
        };
        said.note(endpoint, Hint { hash: hint.hash.filter(|hash| *hash != [0; 16]), ..hint });
    }

    /// What was said of a client by those who count most.
    pub(super) fn of(&self, endpoint: &SocketAddr) -> Hint {
        let said = [&self.themselves, &self.servers, &self.clients];
        let mut hints = said.into_iter().filter_map(|said| Some(said.hints.get(endpoint)?.1));
        let Some(first) = hints.next() else { return Hint::default() };
        Hint { hash: first.hash.or_else(|| hints.find_map(|hint| hint.hash)), ..first }
    }
}

impl Said {
    /// What is said without a user hash does not overwrite one.
    fn note(&mut self, endpoint: SocketAddr, hint: Hint) {
        self.count += 1;
        if let Some((said, known)) = self.hints.get_mut(&endpoint) {
            *said = self.count;
            *known = Hint { hash: hint.hash.or(known.hash), crypt: hint.crypt };
            return;
        }
        if self.hints.len() >= MAX_HINTS {
            let half = self.count.saturating_sub(MAX_HINTS as u64 / 2);
            self.hints.retain(|_, (said, _)| *said > half);
        }
        self.hints.insert(endpoint, (self.count, hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: usize) -> SocketAddr {
        SocketAddr::from((u32::try_from(number).unwrap().to_be_bytes(), 1))
    }

    fn hint(mark: u8, bits: u8) -> Hint {
        Hint { hash: Some([mark; 16]), crypt: Crypt::from_bits(bits) }
    }

    #[test]
    fn who_knows_better_is_believed_and_zeros_are_no_hash() {
        let mut hints = Hints::default();
        hints.note(Teller::Client, at(1), hint(1, 7));
        hints.note(Teller::Client, at(1), hint(0, 7));
        assert_eq!(hints.of(&at(1)), hint(1, 7));
        hints.note(Teller::Server, at(1), Hint { hash: None, ..hint(0, 1) });
        assert_eq!(hints.of(&at(1)), hint(1, 1));
        hints.note(Teller::Server, at(1), hint(2, 3));
        hints.note(Teller::Itself, at(1), hint(3, 1));
        for teller in [Teller::Client, Teller::Server] {
            hints.note(teller, at(1), hint(9, 7));
        }
        assert_eq!(hints.of(&at(1)), hint(3, 1));
    }

    #[test]
    fn many_words_of_clients_drop_their_own_first() {
        let mut hints = Hints::default();
        hints.note(Teller::Server, at(0), hint(1, 3));
        (0..3 * MAX_HINTS).for_each(|number| hints.note(Teller::Client, at(number), hint(9, 7)));
        assert_eq!(hints.of(&at(0)), hint(1, 3));
        assert!(hints.clients.hints.len() <= MAX_HINTS);
        assert_eq!(hints.of(&at(1)), Hint::default());
        assert_eq!(hints.of(&at(3 * MAX_HINTS - 1)), hint(9, 7));
    }
}
