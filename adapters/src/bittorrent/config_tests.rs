use std::time::Duration;

use super::*;

fn one(keys: &str) -> Result<BtConfig, toml::de::Error> {
    let text = format!("[overlays.bittorrent.a]\n{keys}\n");
    parse(&text).map(|mut all| all.remove(&"a".parse().unwrap()).unwrap())
}

#[test]
fn the_example_shows_the_defaults() {
    let id = "example".parse().unwrap();
    let short = parse(EXAMPLE).unwrap().remove(&id).unwrap();
    assert_eq!((short.mode, &short.tracker), (Mode::Presence, &None));
    assert_eq!(short.trackers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((short.max_sessions, short.upload_slots), (400, 16));
    assert_eq!(short.budget, Budget { per_second: 50, in_flight: 16 });
    let text = config::spelt_out(EXAMPLE);
    assert_eq!(text.matches("\nmode = \"presence\"\n").count(), 1);
    let text = text.replace("\"presence\"\n", "\"front\"\n");
    let long = parse(&text).unwrap().remove(&id).unwrap();
    let settings = text.lines().filter(|line| !line.starts_with('#') && line.contains(" = "));
    assert_eq!(settings.count(), 17, "a key is missing in the example");
    let defaults = "trackers = ['http://x/announce']\nmode = 'front'\npublic = ['1.1.1.1']\n[overlays.bittorrent.a.tracker]";
    let tracker = one(defaults).unwrap().tracker;
    assert_eq!(tracker.as_ref().unwrap().terms, TrackerTerms::default());
    let public: Vec<IpAddr> = vec!["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    assert_eq!(long, BtConfig { mode: Mode::Front, tracker, public, ..short });
}

#[test]
fn other_parts_of_the_file_are_not_looked_at() {
    let text = "data_dir = 1\n[overlays.other.x]\ny = 1\n[overlays.bittorrent.a]\ntrackers = ['http://x/announce']\n";
    assert_eq!(parse(text).unwrap().len(), 1);
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn errors_name_the_value_and_its_line() {
    let error = |keys: &str| one(keys).unwrap_err().to_string();
    let bad = error("trackers = [\n  'http://x/a',\n  'ftp://y/a',\n]");
    assert!(bad.contains("line 4") && bad.contains("it must begin with http://"), "{bad}");
    assert!(error("trackers = ['udp://y']").contains("needs a port"));
    assert!(error("trackers = ['udp://:1']").contains("host"));
    let none = error("listen = ['1.1.1.1:1']\ntrackers = []");
    assert!(none.contains("at least one tracker") && none.contains("line 3"), "{none}");
    assert!(error("").contains("at least one tracker"));
    assert!(error("trackers = [1]").contains("a tracker's URL"));
    let ok = "trackers = ['udp://y:1']\n";
    let mode = error(&format!("{ok}mode = 'outline'"));
    assert!(mode.contains("line 3") && mode.contains("is no mode"), "{mode}");
    assert!(error(&format!("{ok}max_sessions = 0")).contains("within 1 and 10000"));
    assert!(error(&format!("{ok}listen = ['x']")).contains("line 3"));
    assert!(error(&format!("{ok}listen = []")).contains("at least one address"));
    assert!(error(&format!("{ok}colour = 1")).contains("unknown field `colour`"));
    let id = parse("[overlays.bittorrent.A_]\ntrackers = ['udp://y:1']").unwrap_err();
    assert!(id.to_string().contains("is no overlay id"), "{id}");
}

#[test]
fn modes_and_tables_must_fit() {
    let table = "[overlays.bittorrent.a.tracker]\n";
    let http = "trackers = ['http://x/announce']\n";
    // The keys of the overlay, then those of its tracker; the line that is named, and what is said.
    let cases = [
        (format!("{http}{table}"), 3, "no tracker with mode = \"presence\""),
        (format!("{http}mode = 'inline'"), 3, "needs a table `tracker`"),
        (format!("mode = 'front'\n{http}"), 2, "needs a table `tracker`"),
        (format!("mode = 'inline'\n{table}"), 1, "at least one tracker"),
        (
            format!("mode = 'inline'\ntrackers = ['http://x/a',\n 'udp://y:1']\n{table}"),
            4,
            "would record the bridge's own address",
        ),
        (
            format!("mode = 'inline'\ntrackers = [[], ['http://x/a',\n 'udp://y:1']]\n{table}"),
            4,
            "would record the bridge's own address",
        ),
        (
            format!("mode = 'inline'\n{http}{table}udp = ['0.0.0.0:1']"),
            5,
            "would record the bridge's own address",
        ),
        (format!("mode = 'inline'\n{http}{table}http = []"), 5, "at least one address"),
        (format!("mode = 'front'\n{http}{table}http = []\nudp = []"), 5, "at least one address"),
        (format!("mode = 'front'\n{table}udp = ['0.0.0.0:1', '0.0.0.0:1']"), 4, "twice"),
        (format!("mode = 'front'\n{table}interval = 0"), 4, "within 1 and 86400"),
        (format!("mode = 'front'\n{table}interval = 9\nmin_interval = 10"), 5, "longer than"),
        (format!("mode = 'front'\n{table}peers = 9\npeers_per_swarm = 10"), 5, "more than `peers`"),
        (format!("mode = 'front'\n{table}swarms = -1"), 4, "is not within"),
        (format!("mode = 'front'\n{table}names = 'all'"), 4, "\"bound\""),
        (format!("mode = 'front'\n{table}name = 'all'"), 4, "unknown field"),
        ("trackers = ['http://x/a',\n 'http://x/a']".to_owned(), 3, "is there twice"),
        (format!("mode = 'front'\n{table}"), 2, "give `public`"),
        (
            format!("mode = 'front'\nlisten = ['0.0.0.0:1']\npublic = ['::1']\n{table}"),
            2,
            "give `public`",
        ),
        (format!("public = ['0.0.0.0']\n{http}"), 2, "nobody can be reached"),
        (format!("{http}[overlays.bittorrent.a.budget]\nper_second = 0"), 4, "is not within"),
    ];
    for (keys, line, says) in cases {
        let error = one(&keys).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line},")) && error.contains('^'), "{keys}\n{error}");
        assert!(error.contains(says), "{keys}\n{error}");
    }
}

#[test]
fn a_tracker_takes_its_terms() {
    let keys = "mode = 'front'\nlisten = ['0.0.0.0:7', '127.0.0.1:8', '[::]:9']\npublic = ['1.1.1.1', '1.1.1.2']\n[overlays.bittorrent.a.tracker]\nhttp = ['127.0.0.1:0', '127.0.0.1:0']\nudp = []\n\
                interval = 30\npeers = 7\nnames = 'bound'\ntrust_forwarded_for = true\n\
                [overlays.bittorrent.a.budget]\nper_second = 10\nin_flight = 4";
    let config = one(keys).unwrap();
    assert!(config.trackers.is_empty());
    let reachable = ["1.1.1.1:7", "1.1.1.2:7", "127.0.0.1:8"].map(|at| at.parse().unwrap());
    assert_eq!(config.reachable(&config.listen), reachable);
    assert_eq!(config.budget, Budget { per_second: 10, in_flight: 4 });
    let tracker = config.tracker.unwrap();
    assert_eq!((tracker.http.len(), tracker.udp.len(), tracker.trust_forwarded_for), (2, 0, true));
    let terms = tracker.terms;
    assert_eq!(
        (terms.interval, terms.min_interval),
        (Duration::from_secs(30), Duration::from_secs(30))
    );
    assert_eq!((terms.peers, terms.peers_per_swarm, terms.bound_only), (7, 7, true));
    let inline = "mode = 'inline'\ntrackers = ['https://x/announce']\npublic = ['::1']\n[overlays.bittorrent.a.tracker]";
    let tracker = one(inline).unwrap().tracker.unwrap();
    assert_eq!((tracker.http.len(), tracker.udp.len()), (2, 0));
}
