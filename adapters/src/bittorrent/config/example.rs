/// Every key, with its default; a test reads it.
pub const EXAMPLE: &str = r#"# A BitTorrent overlay: a set of trackers, and the peers that announce to them.
[overlays.bittorrent.example]

# Its trackers: http, https or udp. Each URL is a tier of its own, tried in this order; URLs in a list of their own
# share a tier, in which the one that answered last is tried first (BEP 12). In front mode there may be none.
trackers = ["http://tracker.example/announce", ["udp://a.example:6969", "udp://b.example:6969"]]

# How the overlay is joined. "presence": the bridge announces itself as one more peer; nothing in the overlay changes.
# "front": the bridge is one more tracker, and answers from its own state. "inline": the bridge stands before the
# trackers, passes announces on with `X-Forwarded-For`, and merges the answers; over HTTP only. Front and inline need
# the table `tracker` below.
# mode = "presence"

# Where the overlay's peers reach the bridge: these ports are announced. Port 0 takes any free port.
# listen = ["0.0.0.0:6881", "[::]:6881"]

# The addresses by which peers reach this host: in front and inline mode the bridge tells them itself, and needs to know
# them unless `listen` names one. In presence mode a tracker sees them.
# public = ["203.0.113.7", "2001:db8::7"]

# How many peers may be connected to download from the bridge.
# max_sessions = 400

# How many of them are served at the same time; the others take turns.
# upload_slots = 16

# What each of the trackers is asked at most, whatever the bridge itself is asked. Inline it is best to give it what the
# tracker can bear: peers' announces above that are answered from the bridge's own state.
# [overlays.bittorrent.example.budget]

# Messages in any second; each repetition and each redirect counts.
# per_second = 50

# Questions that have no answer yet.
# in_flight = 16

# The bridge as a tracker: in front and inline mode only.
# [overlays.bittorrent.example.tracker]

# Where it listens over HTTP: the announce URL is http://<host>:<port>/announce.
# http = ["0.0.0.0:6969", "[::]:6969"]

# Where it listens over UDP, in front mode only: udp://<host>:<port>.
# udp = ["0.0.0.0:6969", "[::]:6969"]

# How many seconds peers are told to wait between announces; a peer is forgotten after twice that.
# interval = 1800

# How many seconds peers are told to wait at least.
# min_interval = 60

# How many swarms are kept, how many peers in all of them, and how many peers of one.
# swarms = 500000
# peers = 2000000
# peers_per_swarm = 10000

# Which torrents are served: "any", or "bound" for those only whose names the bridge knows in this overlay.
# names = "any"

# Whether a proxy stands before it: an asker's address is then the last one in the X-Forwarded-For that the proxy sends.
# trust_forwarded_for = false
"#;
