use p2pbridge_proto::Name;

use super::*;

/// Files of zeros, by alcc and rhash.
const LINKS: &str = include_str!("../../../tests/fixtures/ed2k/links.txt");
const EMPTY: &str = "31d6cfe0d16ae931b73c59d7e0c089c0";
const BLUE_ONE: &str = "d7def262a127cd79096a108e7a9fc138";
const BLUE_TWO: &str = "194ee9e4fa79b2ee9f8829284c466051";

fn file(link: &str) -> (Description, Arc<Ed2kFile>) {
    let description = describe(link.as_bytes()).unwrap();
    let file = Ed2kFile::of(&description).unwrap();
    (description, file)
}

fn refusal(link: &[u8]) -> String {
    describe(link).unwrap_err().to_string()
}

fn hash(text: &str) -> Hash {
    *Name::from_digest_text(Scheme::Ed2k, text).unwrap().digest().first_chunk().unwrap()
}

/// Runs of zeros, as many as a part has.
fn zeros(file: &Ed2kFile, part: u32) -> Vec<Bytes> {
    let size = usize::try_from(file.part_size(part)).unwrap();
    let zeros = Bytes::from(vec![0; size]);
    vec![zeros.slice(..size / 3), zeros.slice(size / 3..)]
}

#[test]
fn files_of_every_length_are_checked_by_the_hashes_that_other_programs_give_them() {
    for line in LINKS.lines().filter(|line| !line.starts_with('#')) {
        let (description, file) = file(line);
        assert_eq!((description.length, description.unit), (file.size, PART));
        assert_eq!(description.files[0].digest, Some(description.names[0]));
        let chunks = || 0..file.part_count();
        let integrity = &description.integrity;
        let told = line.contains("|p=") || file.size < PART;
        assert_eq!(integrity.is_known(), told, "{line}");
        if !told {
            // Bytes of zeros are what the link is of; other bytes are not.
            for part in chunks() {
                assert!(!integrity.check(part, &zeros(&file, part)));
                let size = usize::try_from(file.part_size(part)).unwrap();
                let last = part + 1 == file.part_count();
                let what = if last { Learned::OtherBytes } else { Learned::More };
                assert_eq!(integrity.learn(part, &[Bytes::from(vec![1; size])]), what);
            }
            for part in chunks().rev() {
                let what = if part > 0 { Learned::More } else { Learned::Known };
                assert_eq!(integrity.learn(part, &zeros(&file, part)), what);
            }
        }
        assert!(integrity.is_known());
        for part in chunks() {
            let runs = zeros(&file, part);
            assert!(integrity.check(part, &runs), "{line}");
            assert!(!integrity.check(part, &runs[1..]) || runs[0].is_empty());
            assert!(!integrity.check(file.part_count(), &runs));
        }
        let wire = file.hashes_for_wire().unwrap().len() as u64;
        let counted = if file.size < PART { 0 } else { file.size / PART + 1 };
        assert_eq!(wire, counted, "as eMule counts");
        assert_eq!(describe(file.link().to_string().as_bytes()).unwrap().names, description.names);
    }
}

#[test]
fn at_exact_multiples_both_variants_are_learned() {
    let link = |length, hash: &str| format!("\n ed2k://|file|x|{length}|{hash}|/ \r\n");
    let (part, empty) = (hash(BLUE_ONE), hash(EMPTY));
    let red = file(&link(19_456_000, "114b21c63a74b6ca922291a11177dd5c")).1;
    assert_eq!(red.hashes_for_wire(), None);
    assert!(!red.learn_hashes(&[part]) && !red.learn_hashes(&[part, empty, empty]));
    assert!(!red.learn_hashes(&[]) && red.hashes().is_none());
    assert!(red.learn_hashes(&[part, part, empty]));
    assert_eq!(red.hashes_for_wire().unwrap(), [part, part, empty]);
    assert!(red.learn_hashes(&[part, part]), "it is the same list");
    for (length, blue) in [(9_728_000, BLUE_ONE), (19_456_000, BLUE_TWO)] {
        let (description, file) = file(&link(length, blue));
        assert!(!description.integrity.is_known());
        for chunk in 0..file.part_count() {
            description.integrity.learn(chunk, &zeros(&file, chunk));
        }
        assert_eq!(file.hashes_for_wire().unwrap(), vec![part; file.part_count() as usize]);
    }
}

#[test]
fn what_is_no_link_of_a_file_that_clients_take_is_refused() {
    let link = |length: u64| format!("ed2k://|file|x|{length}|{EMPTY}|/");
    assert!(describe(link(MAX_SIZE).as_bytes()).is_ok());
    assert!(refusal(link(MAX_SIZE + 1).as_bytes()).ends_with("clients take at most 274877906944"));
    let two = [link(1), link(1)].join("\n");
    assert_eq!(refusal(two.as_bytes()), "it has more than one line");
    assert_eq!(refusal(b"d4:info\xFF"), "it is not UTF-8");
    assert_eq!(refusal(b""), "as a link: `` is no ed2k link");
    assert!(refusal(b"ed2k://|server|1.2.3.4|4661|/").ends_with("not of a file"));
    assert_eq!(refusal(&vec![b'e'; MAX_ED2K_LINK + 1]), "it is longer than a link");
    let untitled = format!("ed2k://|file|%20|5|{EMPTY}|/");
    assert_eq!(refusal(untitled.as_bytes()), "the link has no file name");
    let odd = file(&format!("ed2k://|file|../a%2Fb%0A|5|{EMPTY}|/")).0;
    assert_eq!((odd.title.as_str(), odd.files[0].path.as_str()), (".._a_b", ".._a_b"));
}

#[test]
fn a_link_is_composed_of_what_is_known() {
    let ed2k = Name::ed2k(hash(EMPTY));
    let aich = Name::new(Scheme::Aich, &[7; 20]).unwrap();
    let sha1 = Name::new(Scheme::Sha1, &[7; 20]).unwrap();
    let about = |names: &[Name], title: &str, length| {
        let (names, title, chunks) = (names.to_vec(), title.to_owned(), Vec::new());
        let link = compose(&AboutFile { names, title, length, chunks })?;
        Some(String::from_utf8(link).unwrap())
    };
    let link = about(&[sha1, aich, ed2k], "a b/ü", 5 << 30).unwrap();
    assert_eq!(
        link,
        format!(
            "ed2k://|file|a%20b_%C3%BC|5368709120|{EMPTY}|h=A4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYH|/"
        )
    );
    let (description, file) = file(&link);
    assert_eq!((description.names.as_slice(), file.part_count()), (&[ed2k][..], 552));
    assert_eq!((file.aich, file.part_size(551)), (Some([7; 20]), 5 * (1 << 30) - 551 * PART));
    assert_eq!(about(&[sha1, aich], "a", 5), None);
    assert_eq!(about(&[ed2k], "a", 0).unwrap(), format!("ed2k://|file|a|0|{EMPTY}|/"));
    assert_eq!(about(&[ed2k], " ", 5), None);
    assert_eq!(about(&[ed2k], "a", MAX_SIZE + 1), None);
}

#[test]
fn a_link_says_what_it_is_made_of() {
    let with_parts = LINKS.lines().filter(|line| line.contains("|p=")).count();
    let mut told = 0;
    for line in LINKS.lines().filter(|line| !line.starts_with('#')) {
        let about = read_link(line).unwrap();
        let link = String::from_utf8(compose(&about).unwrap()).unwrap();
        assert_eq!(link.to_lowercase(), line);
        told += usize::from(!about.chunks.is_empty());
        // Hashes that are not those of the file are left out; so are others' words on who has it.
        let (names, title) = (about.names.clone(), about.title.clone());
        for chunks in [vec![1; 16], vec![1; 17], [&about.chunks[..], &[1; 16]].concat()] {
            let wrong = AboutFile { names: names.clone(), title: title.clone(), chunks, ..about };
            let link = String::from_utf8(compose(&wrong).unwrap()).unwrap();
            assert!(!link.contains("|p="), "{link}");
        }
        assert_eq!(read_link(&format!("{line}|sources,192.0.2.1:4662|/")), Ok(about));
    }
    assert_eq!((told, with_parts), (4, 4));
    let (blue, part) = (hash(BLUE_TWO), hash(BLUE_ONE));
    let about = AboutFile {
        names: vec![Name::ed2k(blue)],
        title: "x".to_owned(),
        length: 19_456_000,
        chunks: [part, part].concat(),
    };
    let link = compose(&about).unwrap();
    assert_eq!(
        link,
        format!("ed2k://|file|x|19456000|{BLUE_TWO}|p={BLUE_ONE}:{BLUE_ONE}|/").as_bytes()
    );
    assert!(describe(&link).unwrap().integrity.is_known());
    assert_eq!(read_link("ed2k://|file|x").unwrap_err().to_string().lines().count(), 1);
}
