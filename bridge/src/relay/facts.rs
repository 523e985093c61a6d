//! What the relay knows of swarms and names, for the choice between overlays.

use p2pbridge_nametable::Binding;
use p2pbridge_proto::OverlayId;

use super::{LONGEST_CHUNK, Relay, swarm::View};
use crate::{
    status::choice::{Score, SwarmFacts},
    status::chooser::{Way, class_of},
};

impl View {
    /// What is known of the swarm; `None` before its tracker has answered.
    pub(crate) fn facts(&self) -> Option<SwarmFacts> {
        (self.announced || !self.peers.is_empty()).then(|| SwarmFacts {
            seeds: self.seeders,
            peers: u32::try_from(self.peers.len()).unwrap_or(u32::MAX),
        })
    }
}

impl Relay {
    /// How well each way serves by which others of a content's names could come to a name's overlays, the best first for
    /// each of these; at most `most` of them. Reads descriptions: call it off the async threads.
    pub fn ways(
        &self,
        binding: &Binding,
        others: &[impl AsRef<Binding>],
        most: usize,
    ) -> Vec<Score> {
        let mut scores = Vec::new();
        for to in &binding.overlays {
            let mut ways = Vec::new();
            for other in others.iter().map(AsRef::as_ref).chain([binding]) {
                for from in other.overlays.iter().filter(|from| *from != to) {
                    if scores.len() + ways.len() >= most {
                        break;
                    }
                    let way = Way { from, to, name: other.name(), class: class_of(other) };
                    let swarm = self.swarm_facts(from, other);
                    let handed =
                        other.name() == binding.name() && self.handler.hands_over(from, to);
                    let closed = self.closed(from, other, handed);
                    ways.push(self.common.chooser.score(way, swarm, closed));
                }
            }
            ways.sort_by(Score::preference);
            scores.append(&mut ways);
        }
        scores
    }

    /// Bytes of a name that are here, verified, whatever the overlays do.
    #[must_use]
    pub fn held_bytes(&self, binding: &Binding) -> u64 {
        self.held(binding)
    }

    fn swarm_facts(&self, overlay: &OverlayId, binding: &Binding) -> Option<SwarmFacts> {
        let state = self.lock();
        match state.swarms.get(&(overlay.clone(), binding.name())) {
            Some(member) => member.swarm.view().facts(),
            // The bridge need not be in a swarm whose peers are named as they are.
            None => self.handler.swarm_facts(overlay, &binding.names),
        }
    }

    /// Why a name may not, or cannot, leave an overlay. Peers that are handed over need nobody who downloads from them.
    fn closed(&self, overlay: &OverlayId, binding: &Binding, handed: bool) -> Option<String> {
        if !handed && !self.common.leechers.contains_key(overlay) {
            return Some(format!("the bridge cannot download in {overlay}"));
        }
        match (self.describe)(binding) {
            Ok(description) if description.private => Some("it is private (BEP 27)".to_owned()),
            Ok(description) if !handed && description.unit > LONGEST_CHUNK => Some(format!(
                "its chunks of {} bytes are longer than {LONGEST_CHUNK}",
                description.unit
            )),
            Ok(_) => None,
            Err(error) => Some(format!(
                "its description is lost, so it is taken for private: bind it again ({error})"
            )),
        }
    }
}
