//! Which content lies in which page, and what a batch makes of the pages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    sync::Arc,
};

use p2pbridge_proto::ContentId;

use super::page::{Packer, ROOMY};
use crate::{
    Content,
    catalog::index::{Index, Marker},
};

/// The contents of a page.
pub(super) type Rows = Vec<Arc<Content>>;

/// The pages that there are. It knows of a batch before sled has it: when sled does not take that, this is of no more use.
pub(super) struct Pages {
    marker: Marker,
    /// Content → page, by a mark that another content may have as well.
    places: Index,
    /// Bytes by page; 0 when there is none of this number.
    sizes: Vec<u16>,
    free: Vec<u32>,
    /// Pages that are filled again, the emptiest first.
    roomy: BTreeSet<(u16, u32)>,
}

/// What a batch makes of the pages: all of it at once, or nothing.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) put: Vec<(u32, Vec<u8>)>,
    pub(super) delete: Vec<u32>,
    /// No page that was there before is put.
    pub(super) aside: bool,
}

/// A page that a batch looks into.
struct Opened {
    /// What was in it.
    before: Vec<ContentId>,
    rows: Rows,
    changed: bool,
}

impl Opened {
    fn new(rows: Rows) -> Self {
        Self { before: rows.iter().map(|row| row.id).collect(), rows, changed: false }
    }
}

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            marker: Marker::new(),
            places: Index::new(),
            sizes: Vec::new(),
            free: Vec::new(),
            roomy: BTreeSet::new(),
        }
    }

    /// Knows a page that is there, and what is in it. [`Self::all_known`] says when that was the last one.
    pub(super) fn know(&mut self, page: u32, size: usize, ids: impl Iterator<Item = ContentId>) {
        self.resize(page, size);
        for id in ids {
            self.places.insert(self.marker.id(&id), page);
        }
    }

    /// Finds the numbers between that are free.
    pub(super) fn all_known(&mut self) {
        let free = (0..).zip(&self.sizes).filter(|(_, size)| **size == 0);
        self.free = free.map(|(page, _)| page).collect();
    }

    /// Works out what changes of contents make of the pages; of two changes of one content, the later one counts. When more than
    /// `in_place` pages change, what is new gets numbers that were free. `read` gives what is in a page.
    pub(super) fn plan<E>(
        &mut self,
        changes: &[(ContentId, Option<Arc<Content>>)],
        in_place: usize,
        mut read: impl FnMut(u32) -> Result<Rows, E>,
    ) -> Result<Plan, E> {
        let mut opened = BTreeMap::new();
        let mut homeless = self.change(changes, &mut opened, &mut read)?;
        let mut packers = Vec::new();
        for page in opened.values().filter(|page| page.changed) {
            let mut packer = Packer::default();
            homeless.extend(page.rows.iter().filter(|row| !packer.push(row)).cloned());
            packers.extend(Some(packer).filter(|packer| !packer.is_empty()));
        }
        self.house(&homeless, &mut packers, &mut opened, &mut read)?;
        Ok(self.number(&packers, &opened, in_place))
    }

    /// Changes rows where they lie; gives those that lie nowhere yet.
    fn change<E>(
        &self,
        changes: &[(ContentId, Option<Arc<Content>>)],
        opened: &mut BTreeMap<u32, Opened>,
        read: &mut impl FnMut(u32) -> Result<Rows, E>,
    ) -> Result<Rows, E> {
        let mut last: HashMap<_, _> = changes.iter().map(|(id, content)| (*id, content)).collect();
        let mut homeless = Rows::new();
        for (id, _) in changes {
            let Some(content) = last.remove(id) else { continue };
            let mut lies = false;
            for number in self.pages_of(id) {
                let page = match opened.entry(number) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(Opened::new(read(number)?)),
                };
                let Some(at) = page.rows.iter().position(|row| row.id == *id) else { continue };
                match (content, page.rows.get_mut(at)) {
                    (Some(content), Some(row)) => *row = Arc::clone(content),
                    _ => drop(page.rows.remove(at)),
                }
                (lies, page.changed) = (true, true);
            }
            homeless.extend(content.iter().filter(|_| !lies).cloned());
        }
        Ok(homeless)
    }

    /// Finds room for rows: in pages that are being changed, in others, in new ones.
    fn house<E>(
        &self,
        homeless: &[Arc<Content>],
        packers: &mut Vec<Packer>,
        opened: &mut BTreeMap<u32, Opened>,
        read: &mut impl FnMut(u32) -> Result<Rows, E>,
    ) -> Result<(), E> {
        let mut roomy: Vec<Packer> = packers.extract_if(.., |page| page.size() < ROOMY).collect();
        let mut others = self.roomy.iter().map(|(_, page)| *page);
        let mut host: Option<Packer> = None;
        for row in homeless {
            if host.is_none() {
                host = roomy.pop();
            }
            if host.is_none()
                && let Some(number) = others.find(|number| !opened.contains_key(number))
            {
                let page = Opened::new(read(number)?);
                let mut packer = Packer::default();
                packers.extend(page.rows.iter().filter(|row| !packer.push(row)).map(alone));
                opened.insert(number, Opened { changed: true, ..page });
                host = Some(packer);
            }
            let mut page = host.take().unwrap_or_default();
            if !page.push(row) {
                packers.push(std::mem::replace(&mut page, alone(row)));
            }
            host = Some(page);
        }
        packers.extend(roomy);
        packers.extend(host);
        Ok(())
    }

    /// Gives what was packed its numbers, and knows it from now on.
    fn number(
        &mut self,
        packers: &[Packer],
        opened: &BTreeMap<u32, Opened>,
        in_place: usize,
    ) -> Plan {
        let changed: Vec<_> = opened.iter().filter(|(_, page)| page.changed).collect();
        for (number, page) in &changed {
            for id in &page.before {
                self.places.remove(self.marker.id(id), |place| place == **number);
            }
        }
        let aside = packers.len().max(changed.len()) > in_place;
        let mut old = changed.iter().map(|(number, _)| **number);
        let mut plan = Plan { aside, ..Plan::default() };
        for packer in packers {
            let number = old.next().filter(|_| !aside).unwrap_or_else(|| self.free_number());
            self.know(number, packer.size(), packer.ids.iter().copied());
            plan.put.push((number, packer.to_bytes()));
        }
        plan.delete = if aside {
            changed.iter().map(|(number, _)| **number).collect()
        } else {
            old.collect()
        };
        for number in &plan.delete {
            self.resize(*number, 0);
            self.free.push(*number);
        }
        plan
    }

    /// The pages in which a content may lie.
    fn pages_of(&self, id: &ContentId) -> Vec<u32> {
        let mut pages = Vec::new();
        self.places.find(self.marker.id(id), |page| {
            pages.push(page);
            false
        });
        pages
    }

    fn free_number(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            // Of 2^32 pages the disk is full before.
            let number = u32::try_from(self.sizes.len()).unwrap_or(u32::MAX);
            self.resize(number, 1);
            number
        })
    }

    fn resize(&mut self, page: u32, size: usize) {
        let (at, size) = (page as usize, u16::try_from(size).unwrap_or(u16::MAX));
        if at >= self.sizes.len() {
            self.sizes.resize(at + 1, 0);
        }
        if let Some(old) = self.sizes.get_mut(at) {
            self.roomy.remove(&(*old, page));
            *old = size;
        }
        if (1..ROOMY).contains(&usize::from(size)) {
            self.roomy.insert((size, page));
        }
    }
}

/// A page with one row.
fn alone(row: &Arc<Content>) -> Packer {
    let mut packer = Packer::default();
    packer.push(row);
    packer
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use p2pbridge_proto::Evidence;
    use proptest::prelude::*;

    use super::{
        super::page::{PAGE, unpack},
        *,
    };
    use crate::catalog::packed::tests::any_content;

    /// Pages as sled would have them.
    #[derive(Default)]
    struct Disk(BTreeMap<u32, Vec<u8>>);

    impl Disk {
        fn rows(&self, page: u32) -> Rows {
            unpack(&self.0[&page]).unwrap()
        }

        fn all(&self) -> BTreeMap<ContentId, Arc<Content>> {
            let rows: Vec<_> = self.0.keys().flat_map(|page| self.rows(*page)).collect();
            let count = rows.len();
            let all: BTreeMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
            assert_eq!(all.len(), count, "a content lies in two pages");
            all
        }

        fn apply(
            &mut self,
            pages: &mut Pages,
            changes: &[(ContentId, Option<Arc<Content>>)],
            in_place: usize,
        ) {
            let read = |page| Ok::<_, Infallible>(unpack(&self.0[&page]).unwrap());
            let plan = pages.plan(changes, in_place, read).unwrap();
            let was = |page: &u32| self.0.contains_key(page);
            assert!(!plan.aside || plan.put.iter().all(|(page, _)| !was(page)));
            assert!(plan.delete.iter().all(was));
            for page in plan.delete {
                self.0.remove(&page);
            }
            self.0.extend(plan.put);
        }
    }

    fn reopened(disk: &Disk) -> Pages {
        let mut pages = Pages::new();
        for (page, bytes) in &disk.0 {
            pages.know(*page, bytes.len(), disk.rows(*page).iter().map(|row| row.id));
        }
        pages.all_known();
        pages
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pages_hold_what_a_plain_map_would(
            batches in prop::collection::vec(
                (prop::collection::vec((any_content(60), 0..4u8), 1..60), 0..9usize, any::<bool>()),
                1..9,
            ),
        ) {
            let (mut disk, mut pages, mut model) = (Disk::default(), Pages::new(), BTreeMap::new());
            for (batch, in_place, reopen) in batches {
                let changes: Vec<_> = batch.into_iter().map(|(content, what)| {
                    (content.id, (what > 0).then(|| Arc::new(content)))
                }).collect();
                for (id, content) in &changes {
                    match content {
                        Some(content) => drop(model.insert(*id, Arc::clone(content))),
                        None => drop(model.remove(id)),
                    }
                }
                disk.apply(&mut pages, &changes, in_place);
                prop_assert_eq!(&disk.all(), &model);
                if reopen {
                    pages = reopened(&disk);
                }
                for (page, bytes) in &disk.0 {
                    let size = usize::from(pages.sizes[*page as usize]);
                    prop_assert!(size >= bytes.len() || reopen);
                    prop_assert!(bytes.len() <= PAGE || disk.rows(*page).len() == 1);
                }
                let there = pages.sizes.iter().filter(|size| **size > 0).count();
                prop_assert_eq!(there, disk.0.len());
                prop_assert_eq!(pages.free.len() + there, pages.sizes.len());
                prop_assert_eq!(pages.places.len(), model.len());
            }
        }
    }

    fn content(number: u64, title: usize) -> (ContentId, Option<Arc<Content>>) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let id = ContentId::from_bytes(id);
        let name = p2pbridge_proto::Name::btih([number as u8; 20]);
        let since = std::time::UNIX_EPOCH;
        let known = crate::Known { name, evidence: Evidence::Hint, stated_by: "x".into(), since };
        let title = "t".repeat(title);
        (id, Some(Arc::new(Content { id, length: None, title, names: vec![known] })))
    }

    #[test]
    fn pages_are_filled_well() {
        let (mut disk, mut pages) = (Disk::default(), Pages::new());
        for batch in 0..30 {
            let rows: Vec<_> = (0..100).map(|at| content(batch * 100 + at, 100)).collect();
            disk.apply(&mut pages, &rows, 100);
        }
        let fill = |disk: &Disk| {
            let bytes: usize = disk.0.values().map(Vec::len).sum();
            bytes as f64 / (disk.0.len() * PAGE) as f64
        };
        assert!(fill(&disk) > 0.9, "{}", fill(&disk));
        // Three of four go, one by one; as many others come, one by one.
        for number in (0..3_000).filter(|number| number % 4 > 0) {
            disk.apply(&mut pages, &[(content(number, 0).0, None)], 100);
        }
        let before = disk.0.len();
        for number in 0..2_250 {
            disk.apply(&mut pages, &[content(10_000 + number, 100)], 100);
        }
        assert!(fill(&disk) > 0.8, "{}", fill(&disk));
        assert!(disk.0.len() < before + before / 9, "{before} became {}", disk.0.len());
        // Rows that are too long for the emptiest page open a page that takes several.
        let before = disk.0.len();
        (0..40).for_each(|number| disk.apply(&mut pages, &[content(20_000 + number, 450)], 100));
        assert!(disk.0.len() <= before + 40 / 3, "{before} became {}", disk.0.len());
    }
}
