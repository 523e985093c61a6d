//! Overlays whose peers may be named to another one's, because a route says so and both speak one protocol.

use std::{sync::Arc, time::Duration};

use p2pbridge_nametable::Binding;
use p2pbridge_proto::{Name, OverlayId, PeerList};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::{
    flights::Flight,
    peers::{Asker, PeerBook},
};
use crate::status::chooser::{Chooser, Way, class_of};

/// Names whose order of preference is remembered, and for how long.
const ORDERS: usize = 10_000;
const ORDER_AGE: Duration = Duration::from_secs(1);
/// Neighbours that are asked for one name, the best first.
const ASKED: usize = 3;

pub(super) struct Neighbours {
    overlay: OverlayId,
    books: Vec<Arc<PeerBook>>,
    chooser: Arc<Chooser>,
    orders: Cache<Name, (Instant, Arc<[usize]>)>,
}

impl Neighbours {
    pub(super) fn new(
        overlay: OverlayId,
        books: Vec<Arc<PeerBook>>,
        chooser: Arc<Chooser>,
    ) -> Self {
        Self { overlay, books, chooser, orders: Cache::new(ORDERS) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    pub(super) fn has(&self, overlay: &OverlayId) -> bool {
        self.books.iter().any(|book| book.id == *overlay)
    }

    /// Adds peers that go by any of a binding's names at a neighbour, the best neighbour's first: all of them see the
    /// same bytes in the same chunks. Gives what is worth waiting for.
    pub(super) fn add_peers(
        &self,
        binding: &Binding,
        names: &[Name],
        asker: &Asker,
        now: Instant,
        list: &mut PeerList,
    ) -> Vec<Flight<()>> {
        let mut waits = Vec::new();
        for (place, number) in self.order(binding, now).iter().enumerate() {
            let Some(book) = self.books.get(*number) else { continue };
            if place < ASKED {
                waits.extend(book.refresh(&binding.names, binding.layout.length()));
            }
            book.add_peers(names, asker, now, list);
        }
        waits
    }

    /// The neighbours in which a binding is used, the one that can serve best first.
    fn order(&self, binding: &Binding, now: Instant) -> Arc<[usize]> {
        let used = || {
            let books = self.books.iter().enumerate();
            books.filter(|(_, book)| binding.overlays.contains(&book.id))
        };
        if used().count() < 2 {
            return used().map(|(number, _)| number).collect();
        }
        let fresh = |(at, _): &(Instant, _)| now.saturating_duration_since(*at) < ORDER_AGE;
        if let Some((_, order)) = self.orders.get(&binding.name()).filter(fresh) {
            return order;
        }
        let class = class_of(binding);
        let mut scores: Vec<_> = used()
            .map(|(number, book)| {
                let way = Way { from: &book.id, to: &self.overlay, name: binding.name(), class };
                (number, self.chooser.score(way, book.facts(&binding.names), None))
            })
            .collect();
        // Of whom nothing is known yet stands behind, but is asked all the same.
        scores.sort_by(|(_, one), (_, other)| one.preference(other));
        let order: Arc<[usize]> = scores.into_iter().map(|(number, _)| number).collect();
        self.orders.insert(binding.name(), (now, order.clone()));
        order
    }
}
