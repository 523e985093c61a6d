//! Inline: announces are passed on to the tracker behind, and what it says is merged with what the bridge knows.

use std::sync::Arc;

use futures::future::join_all;
use p2pbridge_nametable::Binding;
use p2pbridge_proto::{Announce, ErrorCode, Fault, Peer, PeerEvent, PeerList, Reply, SwarmQuery};
use tokio::time::{Instant, timeout};

use super::{
    gate::Gate,
    overlay::{FIRST_WORD, Overlay, sizes},
    peers::Asker,
    swarms::SwarmTable,
};

impl Overlay {
    /// Passes an announce on, and answers with what the tracker says, and the bridge in it. While there is no answer,
    /// what the bridge knows is the answer.
    pub(super) async fn pass_on(
        &self,
        table: &SwarmTable,
        gate: &Arc<Gate>,
        announce: Announce,
        binding: Option<Arc<Binding>>,
    ) -> Result<Reply, Fault> {
        let (now, asker) = (Instant::now(), Asker::of(&announce, false));
        let (names, event) = (announce.names.clone(), announce.event);
        // When the table has no room, the tracker behind may have.
        if table.note(&announce, now).is_ok() {
            self.own.note_title(&announce);
        }
        // Whom the bridge knows is looked up when it is needed: mostly it is not.
        let own = || {
            let mut list = table.list();
            if event != PeerEvent::Stopped {
                let by = Some((asker.endpoint, asker.complete));
                table.add_peers(&names, asker.most, by, now, &mut list);
            }
            list
        };
        let early = gate.early(&announce, now);
        let said = match &early {
            Some(known) => Ok(known.list.clone()),
            None => gate.pass(announce).await,
        };
        let mut list = match said {
            Ok(mut list) => {
                let said = std::mem::take(&mut list.peers);
                let hosts = table.hosts(&names, asker.complete);
                list.peers.reserve(asker.most.min(hosts.len() + said.len()));
                list.peers.extend(hosts.iter().take(asker.most).copied().map(Peer::at));
                self.own.add(said, &asker, &mut list);
                if early.is_some() {
                    // Who came since the tracker was last asked is known here.
                    self.own.add(own().peers, &asker, &mut list);
                }
                list
            }
            Err(fault) if fault.is_retryable() => {
                let known = names.first().and_then(|name| gate.known(name));
                let known = known.and_then(|known| known.peers(now));
                self.without_tracker(table, own(), known, &asker, fault)?
            }
            Err(fault) => {
                table.forget(&names, asker.endpoint);
                return Err(fault);
            }
        };
        if let Some(binding) = binding.filter(|_| event != PeerEvent::Stopped) {
            let before = list.clone();
            let waits = self.add_neighbours(&asker, &binding, &mut list);
            if !waits.is_empty() {
                let _ = timeout(FIRST_WORD, join_all(waits)).await;
                list = before;
                self.add_neighbours(&asker, &binding, &mut list);
            }
        }
        Ok(Reply::Peers(list))
    }

    /// What is answered while the tracker does not: who announced here, and whom the tracker named last.
    fn without_tracker(
        &self,
        table: &SwarmTable,
        own: PeerList,
        known: Option<PeerList>,
        asker: &Asker,
        fault: Fault,
    ) -> Result<PeerList, Fault> {
        let mut list = own;
        let age = known.as_ref().and_then(|known| known.stale);
        if let Some(known) = known {
            self.own.add(known.peers, asker, &mut list);
        }
        if list.peers.is_empty() {
            return Err(fault);
        }
        // Over its budget, the tracker may be as well as ever.
        if age.is_some() || fault.code != ErrorCode::Overloaded {
            list.stale = Some(age.unwrap_or_default());
            // It may be back soon, and then wants to know who is there.
            list.interval = table.terms().min_interval.min(table.terms().interval);
        }
        Ok(list)
    }

    /// The sizes of swarms as the tracker says them; while it does not, as the bridge knows them.
    pub(super) async fn ask_sizes(
        &self,
        table: &SwarmTable,
        gate: &Arc<Gate>,
        query: SwarmQuery,
    ) -> Reply {
        let stats = gate.stats(&query.names).await;
        Reply::Swarms(stats.unwrap_or_else(|_| sizes(table, &query.names)))
    }
}
