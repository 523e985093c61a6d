/// Every key, with its default; a test reads it.
pub const EXAMPLE: &str = r#"# An eD2k overlay (eMule, aMule): servers, and the clients that are logged in to them.
[overlays.ed2k.example]

# The servers to log in to, as links or as "host:port": the first that takes the bridge is used, the next one when it
# fails. In front mode, where there may be none, clients are told of them; they need addresses then.
servers = ["ed2k://|server|198.51.100.1|4661|/", "198.51.100.2:4242"]

# How the overlay is joined. "presence": the bridge logs in to a server as one more client; nothing in the overlay
# changes. "front": the bridge is one more server, and answers from its own state; it needs the table `server` below.
# mode = "presence"

# Where the overlay's clients reach the bridge, in IPv4; the first port is told to the server. Port 0 takes any free port.
# listen = ["0.0.0.0:4662"]

# The IPv4 addresses by which clients reach this host: in front mode the bridge tells them itself, and needs to know them
# unless `listen` names one. In presence mode the server sees them.
# public = ["203.0.113.7"]

# What the bridge calls itself among clients.
# nick = "p2p-bridge"

# How many clients may be connected, to download from the bridge or to be downloaded from.
# max_sessions = 400

# How many of them are served at the same time; the others wait in a queue.
# upload_slots = 16

# Which connections with clients are obfuscated: "off" for none, "accepted" for those with clients that ask for it,
# "required" for all.
# obfuscation = "accepted"

# What the server is asked at most, whatever the bridge itself is asked.
# [overlays.ed2k.example.budget]

# Messages in any second.
# per_second = 50

# Questions that have no answer yet.
# in_flight = 16

# The bridge as a server: in front mode only.
# [overlays.ed2k.example.server]

# Where clients log in: ed2k://|server|<address>|<port>|/.
# tcp = ["0.0.0.0:4661"]

# Where clients ask that are logged in to other servers: UDP, at the TCP port + 4, where clients look for it.
# udp = ["0.0.0.0:4665"]

# What the server is called, what it says of itself in lists of servers, and what it tells clients that log in.
# name = "P2P-Bridge"
# description = ""
# welcome = ""

# How many clients may be logged in, and how many files each of them may offer.
# max_sessions = 10000
# max_files_per_client = 10000

# How many seconds an offer is good for: the server renews those of the clients that are logged in, and forgets the
# others after twice that.
# interval = 1800

# How many swarms (files) are kept, how many peers (sources) in all of them, and how many of one.
# swarms = 500000
# peers = 2000000
# peers_per_swarm = 10000

# Which files are served: "any", or "bound" for those only whose names the bridge knows in this overlay.
# names = "any"
"#;
