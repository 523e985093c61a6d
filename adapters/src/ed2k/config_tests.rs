use std::time::Duration;

use super::*;

const SERVERS: &str = "servers = ['198.51.100.1:4661']\n";
const TABLE: &str = "[overlays.ed2k.a.server]\n";

fn one(keys: &str) -> Result<Ed2kConfig, toml::de::Error> {
    let text = format!("[overlays.ed2k.a]\n{keys}\n");
    parse(&text).map(|mut all| all.remove(&"a".parse().unwrap()).unwrap())
}

#[test]
fn the_example_shows_the_defaults() {
    let id = "example".parse().unwrap();
    let short = parse(EXAMPLE).unwrap().remove(&id).unwrap();
    assert_eq!((short.mode, short.servers.len(), &short.server), (Mode::Presence, 2, &None));
    assert_eq!((short.max_sessions, short.upload_slots), (400, 16));
    assert_eq!(short.budget, Budget::default());
    let text = config::spelt_out(EXAMPLE);
    assert_eq!(text.matches("\nmode = \"presence\"\n").count(), 1);
    let text = text.replace("\"presence\"\n", "\"front\"\n");
    let long = parse(&text).unwrap().remove(&id).unwrap();
    let settings = text.lines().filter(|line| !line.starts_with('#') && line.contains(" = "));
    assert_eq!(settings.count(), 22, "a key is missing in the example");
    let defaults = format!("{SERVERS}mode = 'front'\npublic = ['1.1.1.1']\n{TABLE}");
    let server = one(&defaults).unwrap().server;
    assert_eq!(server.as_ref().unwrap().terms, TrackerTerms::default());
    let public: Vec<IpAddr> = vec!["203.0.113.7".parse().unwrap()];
    assert_eq!(long, Ed2kConfig { mode: Mode::Front, server, public, ..short });
}

#[test]
fn other_parts_of_the_file_are_not_looked_at() {
    let text = format!("[overlays.bittorrent.x]\ny = 1\n[overlays.ed2k.a]\n{SERVERS}");
    assert_eq!(parse(&text).unwrap().len(), 1);
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn errors_name_the_value_and_its_line() {
    // The keys of the overlay; the line that is named, and what is said.
    let cases = [
        (String::new(), 1, "at least one server"),
        ("servers = ['198.51.100.1:4661',\n 'x']".to_owned(), 3, "HOST:PORT"),
        ("servers = ['x:1',\n 'ed2k://|server|x|1|/']".to_owned(), 3, "is there twice"),
        (format!("{SERVERS}mode = 'inline'"), 3, "nothing to stand before"),
        (format!("{SERVERS}mode = 'front'"), 3, "needs a table `server`"),
        (format!("{SERVERS}{TABLE}"), 3, "no server with mode = \"presence\""),
        (format!("{SERVERS}listen = ['0.0.0.0:1',\n'[::]:1']"), 4, "IPv4 only"),
        (format!("{SERVERS}public = ['::1']"), 3, "IPv4 only"),
        (format!("{SERVERS}nick = ''"), 3, "within 1 and 50"),
        (format!("{SERVERS}nick = 'a\\u0007'"), 3, "cannot be told"),
        (format!("{SERVERS}obfuscation = 'some'"), 3, "unknown variant"),
        (format!("{SERVERS}max_sessions = 0"), 3, "within 1 and 10000"),
        (format!("{SERVERS}colour = 1"), 3, "unknown field `colour`"),
        (format!("mode = 'front'\nservers = ['x:1']\n{TABLE}"), 3, "by their addresses"),
        (format!("mode = 'front'\n{TABLE}"), 2, "give `public`"),
        (format!("mode = 'front'\npublic = ['1.1.1.1']\n{TABLE}tcp = []"), 5, "at least one"),
        (format!("mode = 'front'\n{TABLE}tcp = ['1.1.1.1:65533']"), 4, "give `udp`"),
        (format!("mode = 'front'\n{TABLE}udp = ['[::]:1']"), 4, "IPv4 only"),
        (format!("mode = 'front'\n{TABLE}peers = 9\npeers_per_swarm = 10"), 5, "more than"),
        (format!("mode = 'front'\n{TABLE}min_interval = 9"), 4, "unknown field"),
        (format!("{SERVERS}[overlays.ed2k.a.budget]\nper_second = 0"), 4, "is not within"),
    ];
    for (keys, line, says) in cases {
        // A literal string cannot escape a control character.
        let keys = keys.replace("'a\\u0007'", "\"a\\u0007\"");
        let error = one(&keys).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line},")) && error.contains('^'), "{keys}\n{error}");
        assert!(error.contains(says), "{keys}\n{error}");
    }
    let many = format!("servers = {:?}", (1..=33).map(|n| format!("x:{n}")).collect::<Vec<_>>());
    assert!(one(&many).unwrap_err().to_string().contains("33 servers are more than 32"));
}

#[test]
fn a_front_takes_its_terms_and_its_udp_port_is_four_above() {
    let keys = format!(
        "mode = 'front'\nlisten = ['0.0.0.0:7', '127.0.0.1:8']\npublic = ['1.1.1.1']\n{TABLE}\
         tcp = ['0.0.0.0:5000', '127.0.0.1:0']\nname = 'here'\ninterval = 30\npeers = 7\nnames = 'bound'"
    );
    let config = one(&keys).unwrap();
    let reachable = ["1.1.1.1:7", "127.0.0.1:8"].map(|at| at.parse().unwrap());
    assert_eq!(config.reachable(&config.listen), reachable);
    let server = config.server.unwrap();
    assert_eq!(server.udp, ["0.0.0.0:5004", "127.0.0.1:0"].map(|at| at.parse().unwrap()));
    assert_eq!(server.name, "here");
    let terms = server.terms;
    assert_eq!(terms.interval, Duration::from_secs(30));
    assert_eq!((terms.peers, terms.peers_per_swarm, terms.bound_only), (7, 7, true));
    let none = one(&format!("mode = 'front'\nlisten = ['127.0.0.1:0']\n{TABLE}udp = []")).unwrap();
    assert!(none.server.unwrap().udp.is_empty());
}
