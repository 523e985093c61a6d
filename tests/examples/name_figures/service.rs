//! How many names a second programs get over gRPC: one a call, and many.

use std::time::{Duration, Instant};

use p2pbridge_proto::{
    Name, Scheme,
    v1::{self, name_service_client::NameServiceClient},
};
use p2pbridge_tests::{Bridge, Scene, bridge_alone};
use tonic::transport::{Channel, Endpoint};

/// Contents that are known, each by four names.
const CONTENTS: u64 = 250_000;
/// Contents of a request while the list is taken in.
const ROWS: u64 = 5_000;
/// How long each way is measured.
const LASTS: Duration = Duration::from_secs(5);
/// Names of a call with many.
const MANY: u64 = 10_000;
/// Calls with one name that wait for their answers at once, on all connections.
const AT_ONCE: u64 = 128;
const CONNECTIONS: usize = 4;

/// Prints the rates.
pub(crate) async fn run() {
    let scene = Scene::new();
    let mut bridge = bridge_alone(&scene).await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = Endpoint::from_shared(bridge.server()).unwrap().connect().await.unwrap();
        clients.push(NameServiceClient::new(channel).max_decoding_message_size(64 << 20));
    }
    let begun = Instant::now();
    let rows = (0..CONTENTS / ROWS).map(|page| {
        let rows = (page * ROWS..(page + 1) * ROWS).map(|number| v1::Statement {
            names: SCHEMES.map(|scheme| name(scheme, number).into()).to_vec(),
            length: Some(number + 1),
            title: format!("Some.Content.Of.Number.{number:07}.mkv"),
            ..Default::default()
        });
        v1::ImportNamesRequest { rows: rows.collect(), source: "figures".to_owned() }
    });
    let rows: Vec<_> = rows.collect();
    let requests = futures::stream::iter(rows);
    let mut answers = clients[0].import_names(requests).await.unwrap().into_inner();
    let mut created = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        created += u64::from(answer.created);
        assert!(answer.refused.is_empty(), "{:?}", answer.refused.first());
    }
    assert_eq!(created, CONTENTS);
    let names = CONTENTS * SCHEMES.len() as u64;
    let took = begun.elapsed().as_secs_f64();
    println!("taken in over gRPC, durable: {names} names, {:.0} a second", names as f64 / took);

    let resolve = calls(&clients, AT_ONCE, async |client, number| {
        let request = v1::ResolveRequest {
            name: name(Scheme::Tth, number).to_string(),
            ..Default::default()
        };
        let answer = client.resolve(request).await.unwrap().into_inner();
        assert_eq!(answer.contents[0].names.len(), SCHEMES.len());
        1
    });
    report("Resolve, one name a call, all that is known of it", resolve.await, &bridge);
    let one = calls(&clients, AT_ONCE, async |client, number| translate(client, number, 1).await);
    report("Translate, one name a call", one.await, &bridge);
    let many = calls(&clients, 4, async |client, number| translate(client, number, MANY).await);
    report("Translate, 10,000 names a call", many.await, &bridge);
    bridge.terminate(20).await;
}

const SCHEMES: [Scheme; 4] = [Scheme::Ed2k, Scheme::Tth, Scheme::Sha1, Scheme::Btih];

fn report(what: &str, (names, seconds): (u64, f64), bridge: &Bridge) {
    let rate = names as f64 / seconds;
    println!(
        "{what}: {rate:.0} names a second (bridge so far: {:.1} s of CPU)",
        bridge.cpu_seconds()
    );
}

/// Asks for SHA-1s by eD2k hashes.
async fn translate(client: &mut NameServiceClient<Channel>, from: u64, count: u64) -> u64 {
    let mut names = Vec::new();
    for number in from..from + count {
        names.push(Scheme::Ed2k as u8);
        names.extend_from_slice(name(Scheme::Ed2k, number % CONTENTS).digest());
    }
    let to = vec![v1::Scheme::Sha1.into()];
    let request = v1::TranslateRequest { names, to, ..Default::default() };
    let answer = client.translate(request).await.unwrap().into_inner();
    assert_eq!(answer.counts.len() as u64, count);
    assert!(answer.counts.iter().all(|count| *count == 1));
    assert_eq!(&answer.names[1..21], name(Scheme::Sha1, from % CONTENTS).digest());
    count
}

/// Calls again and again for a while, so many at once; gives how many names were got, and in how many seconds.
async fn calls(
    clients: &[NameServiceClient<Channel>],
    at_once: u64,
    call: impl AsyncFn(&mut NameServiceClient<Channel>, u64) -> u64,
) -> (u64, f64) {
    let begun = Instant::now();
    let workers = (0..at_once).map(|worker| {
        let mut client = clients[usize::try_from(worker).unwrap() % clients.len()].clone();
        let call = &call;
        async move {
            let (mut names, mut number) = (0, worker * 7_919);
            while begun.elapsed() < LASTS {
                names += call(&mut client, number % CONTENTS).await;
                number += 104_729;
            }
            names
        }
    });
    let names = futures::future::join_all(workers).await.into_iter().sum();
    (names, begun.elapsed().as_secs_f64())
}

/// A name that looks like any other.
fn name(scheme: Scheme, number: u64) -> Name {
    let mut digest = Vec::with_capacity(40);
    let mut state = number.wrapping_add(u64::from(scheme as u8) << 56);
    while digest.len() < scheme.digest_len() {
        // SplitMix64: no two numbers give the same.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        digest.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    Name::new(scheme, &digest[..scheme.digest_len()]).unwrap()
}
