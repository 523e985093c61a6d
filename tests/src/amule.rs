//! amuled, the daemon of aMule, driven by amulecmd.
//!
//! Of its timers these matter here. Files are offered to a server at the first second after the start, if it is connected by then, and
//! else a minute later: so a [`Mule`] that shares is [prepared](Mule::prepare), and started with its server. Sources of a file are
//! asked for when the download begins, and then after a quarter of an hour, or when it connects again.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use md4::{Digest, Md4};
use tokio::io::AsyncWriteExt;

use crate::announce::percent;
use crate::server_met;
use crate::wait::{eventually, within};
use crate::{KnownServer, Launch, Limits, Program, Scene, free_port, tools};

/// The port on which eD2k clients listen if nobody says otherwise.
pub const MULE_PORT: u16 = 4662;

/// An amuled that does not run yet: its directory and its settings.
#[derive(Clone, Debug)]
pub struct Mule {
    name: String,
    at: Ipv4Addr,
    port: u16,
    limits: Limits,
    crypt: Crypt,
    previews: bool,
    learns: bool,
    dir: PathBuf,
}

/// How an amuled keeps its talk from being recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crypt {
    /// Never.
    #[default]
    Off,
    /// As it comes out of the box: it can, and asks for it.
    Asked,
    /// It talks to nobody without.
    Required,
}

/// What an amuled shows of a file that it shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its eD2k hash, in lower-case hex.
    pub hash: String,
    /// Its name.
    pub name: String,
}

/// A line of the results of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// By which it is downloaded.
    pub number: usize,
    /// File name.
    pub name: String,
    /// Size in KiB.
    pub kib: u64,
    /// How many hold it.
    pub sources: u64,
}

impl Mule {
    /// A directory for it, called `name`; it is to be at this address, at the usual port.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn new(scene: &Scene, name: &str, at: Ipv4Addr) -> Self {
        let dir = scene.dir(&format!("mule-{name}"));
        for below in ["Incoming", "Temp"] {
            fs::create_dir_all(dir.join(below)).expect("its directories");
        }
        // Two that are started in one second would give themselves the same hash.
        let mut hash: [u8; 16] = Md4::digest(format!("{name} {at}")).into();
        (hash[5], hash[14]) = (0x0e, 0x6f);
        let preferences: Vec<u8> = [0x14].into_iter().chain(hash).collect();
        fs::write(dir.join("preferences.dat"), preferences).expect("its user hash");
        let limits = Limits::default();
        let (name, crypt) = (name.to_owned(), Crypt::Off);
        Self { name, at, port: MULE_PORT, limits, crypt, previews: false, learns: false, dir }
    }

    /// Listening at another port.
    #[must_use]
    pub fn listening(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// With limits; they are rounded to KiB/s.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Fetching the first and the last part of a film before the others.
    #[must_use]
    pub fn previewing(self) -> Self {
        Self { previews: true, ..self }
    }

    /// Taking over the servers of which its server tells.
    #[must_use]
    pub fn learning(self) -> Self {
        Self { learns: true, ..self }
    }

    /// With obfuscation.
    #[must_use]
    pub fn crypt(self, crypt: Crypt) -> Self {
        Self { crypt, ..self }
    }

    /// Where what it shares lies, and where what it has downloaded comes to lie.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.dir.join("Incoming")
    }

    /// The bytes of the one download that it has so far, where they will be in the file.
    #[must_use]
    pub fn part_file(&self) -> PathBuf {
        self.dir.join("Temp/001.part")
    }

    /// Where a peer or a server sees it.
    #[must_use]
    pub fn endpoint(&self) -> SocketAddr {
        (self.at, self.port).into()
    }

    /// The servers that it knew when it was ended.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn servers(&self) -> Vec<KnownServer> {
        let bytes = fs::read(self.dir.join("server.met")).expect("its servers");
        server_met::read(&bytes).expect("a whole server.met")
    }

    /// Lets it hash `files` files below its [`incoming`](Self::incoming), and gives what it says of them. It remembers that.
    pub async fn prepare(&self, scene: &Scene, files: usize) -> Vec<Shared> {
        let mule = self.start(scene, None).await;
        let shared = eventually("all files hashed", 60, async || {
            Some(mule.shared().await).filter(|shared| shared.len() >= files)
        })
        .await;
        mule.stop().await;
        shared
    }

    /// Starts it, and waits until it can be told something. With a server it connects to that, and does so again whenever it is lost.
    pub async fn start(&self, scene: &Scene, server: Option<SocketAddr>) -> Amule {
        if let Some(server) = server {
            fs::write(self.dir.join("server.met"), server_list(server, self.crypt))
                .expect("its server");
        }
        let control = free_port();
        fs::write(self.dir.join("amule.conf"), self.settings(control, server.is_some()))
            .expect("its settings");
        let label = format!("amuled-{}", self.name);
        let program = Launch::new(&label, tools().join("amule/amuled"))
            .arg(format!("--config-dir={}", self.dir.display()))
            .arg("--log-stdout")
            .start(scene);
        let mut mule = Amule { mule: self.clone(), program, control };
        eventually("amuled answering", 20, async || {
            mule.program.assert_runs();
            mule.try_tell("status").await.map(drop)
        })
        .await;
        mule
    }

    /// One key a line. An upload slot of 100,000 KiB/s: the default is 10, and what a slot may have is what a peer gets.
    fn settings(&self, control: u16, connects: bool) -> String {
        let Self { name, at, port, limits, crypt, previews, learns, dir } = self;
        let (up, down) = (limits.up.div_ceil(1024), limits.down.div_ceil(1024));
        let udp = port + 10;
        let dir = dir.display();
        let learns = u8::from(*learns);
        let (connects, supported) = (u8::from(connects), u8::from(*crypt != Crypt::Off));
        let (required, previews) = (u8::from(*crypt == Crypt::Required), u8::from(*previews));
        format!(
            "[eMule]\nNick={name}\nAddress={at}\nPort={port}\nUDPPort={udp}\nMaxUpload={up}\nMaxDownload={down}\n\
             SlotAllocation=100000\nMaxConnectionsPerFiveSeconds=200\nAutoconnect={connects}\nReconnect=1\nConnectToKad=0\nConnectToED2K=1\n\
             Serverlist=0\nAddServerListFromServer={learns}\nAddServerListFromClient=0\nRemoveDeadServer=0\nSafeServerConnect=0\n\
             SmartIdCheck=0\nUPnPEnabled=0\nFilterLanIPs=0\nIPFilterAutoLoad=0\nNewVersionCheck=0\nGeoIPEnabled=0\nKadNodesUrl=\n\
             Ed2kServersUrl=\nPreviewPrio={previews}\nTempDir={dir}/Temp\nIncomingDir={dir}/Incoming\n\
             [ExternalConnect]\nAcceptExternalConnections=1\nECAddress=127.0.0.1\nECPort={control}\nECPassword={PASSWORD_MD5}\n\
             IpFilterClients=0\nIpFilterServers=0\n\
             [Obfuscation]\nIsClientCryptLayerSupported={supported}\nIsCryptLayerRequested={supported}\n\
             IsClientCryptLayerRequired={required}\n"
        )
    }
}

const PASSWORD: &str = "secret";
/// What amuled keeps of it.
const PASSWORD_MD5: &str = "5ebe2294ecd0e0f08eab7690d2a6ee69";

/// A `server.met` with one server. An amuled that wants obfuscation logs in so only where it knows of a port for it: the same one.
fn server_list(server: SocketAddr, crypt: Crypt) -> Vec<u8> {
    let SocketAddr::V4(server) = server else { panic!("{server} is not IPv4") };
    let mut list = vec![0xe0, 1, 0, 0, 0];
    list.extend(server.ip().octets());
    list.extend(server.port().to_le_bytes());
    if crypt == Crypt::Off {
        list.extend([0; 4]);
        return list;
    }
    list.extend([2, 0, 0, 0]);
    // ST_UDPFLAGS with SRV_UDPFLG_TCPOBFUSCATION, ST_TCPPORTOBFUSCATION
    for (tag, value) in [(0x92, 0x400), (0x97, u32::from(server.port()))] {
        list.extend([3, 1, 0, tag]);
        list.extend(value.to_le_bytes());
    }
    list
}

/// A running amuled.
#[derive(Debug)]
pub struct Amule {
    /// What it was started from.
    pub mule: Mule,
    /// The program.
    pub program: Program,
    control: u16,
}

impl Amule {
    /// Tells it something in amulecmd's words, and gives the answer without what amulecmd says of itself.
    pub async fn tell(&self, words: &str) -> String {
        let told = self.try_tell(words).await;
        told.unwrap_or_else(|| panic!("amulecmd {words}: no answer"))
    }

    /// The same; `None` when it cannot be reached. What is on several lines is told in one session.
    async fn try_tell(&self, words: &str) -> Option<String> {
        let mut amulecmd = tokio::process::Command::new(tools().join("amule/amulecmd"));
        amulecmd.args(["--host=127.0.0.1", &format!("--port={}", self.control)]);
        amulecmd.arg(format!("--password={PASSWORD}"));
        amulecmd.env("HOME", &self.mule.dir).kill_on_drop(true);
        amulecmd.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        amulecmd.stderr(std::process::Stdio::piped());
        let mut running = amulecmd.spawn().expect("amulecmd; ./tests/install");
        let mut input = running.stdin.take().expect("its input");
        let words = format!("{words}\nexit\n");
        // One that has ended without listening has said why.
        let _ = input.write_all(words.as_bytes()).await;
        drop(input);
        let output = within("amulecmd", 30, running.wait_with_output()).await.expect("its output");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.split_once("Succeeded!").map(|(_, answer)| answer.to_owned())
    }

    /// The files that it shares and has hashed.
    pub async fn shared(&self) -> Vec<Shared> {
        let said = self.tell("show shared").await;
        said.lines().filter_map(shared).collect()
    }

    /// Connects to a server, and waits until it is logged in.
    pub async fn connect(&self, server: SocketAddr) {
        self.tell(&format!("add ed2k://|server|{}|{}|/", server.ip(), server.port())).await;
        self.tell("connect ed2k").await;
        self.logged_in().await;
    }

    /// Waits until it is logged in to a server, and says whether with a high id.
    pub async fn logged_in(&self) -> bool {
        eventually("amuled logged in to its server", 30, async || {
            let status = self.tell("status").await;
            match () {
                () if status.contains("with HighID") => Some(true),
                () if status.contains("with LowID") => Some(false),
                () => None,
            }
        })
        .await
    }

    /// Downloads from an eD2k link.
    pub async fn download(&self, link: &str) {
        let said = self.tell(&format!("add {link}")).await;
        assert!(said.contains("successful"), "{link}: {said}");
    }

    /// Waits until the file called `name` is whole, and gives where it lies.
    pub async fn finished(&mut self, name: &str, seconds: u64) -> PathBuf {
        let path = self.mule.incoming().join(name);
        eventually(&format!("{name} downloaded by amuled"), seconds, async || {
            self.program.assert_runs();
            path.exists().then_some(())
        })
        .await;
        path
    }

    /// What `show dl` says of its downloads.
    pub async fn downloads(&self) -> String {
        self.tell("show dl").await
    }

    /// Searches at its server: words, and filters such as `--type Video` and `--min-size 1M`. Waits for results.
    pub async fn search(&self, query: &str) -> Vec<Hit> {
        self.tell(&format!("search local {query}")).await;
        eventually(&format!("results for {query}"), 20, async || {
            Some(self.results().await).filter(|hits| !hits.is_empty())
        })
        .await
    }

    /// The results so far of the last search.
    pub async fn results(&self) -> Vec<Hit> {
        self.tell("results").await.lines().filter_map(hit).collect()
    }

    /// Downloads one of the results.
    pub async fn download_hit(&self, hit: &Hit) {
        self.tell(&format!("results\ndownload {}", hit.number)).await;
    }

    /// Ends it, as its operator does, and waits for its end: what it knows is written down.
    pub async fn stop(mut self) {
        self.program.signal("TERM");
        self.program.ended(20).await;
    }
}

/// ` > HASH<tab>PATH`.
fn shared(line: &str) -> Option<Shared> {
    let (hash, path) = line.split_once(" > ")?.1.split_once('\t')?;
    let known = hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = Path::new(path).file_name()?.to_str()?.to_owned();
    known.then(|| Shared { hash: hash.to_lowercase(), name })
}

/// `NUMBER.  NAME  SIZE  SOURCES`, in columns; the name may have spaces.
fn hit(line: &str) -> Option<Hit> {
    let (number, rest) = line.split_once('.')?;
    let (rest, sources) = rest.trim().rsplit_once(' ')?;
    let sources = sources.parse().ok()?;
    let (name, size) = rest.trim_end().rsplit_once(' ')?;
    // What is behind the point are KiB, not thousandths.
    let (mib, kib) = size.split_once('.')?;
    let kib = mib.parse::<u64>().ok()? * 1024 + kib.parse::<u64>().ok()?;
    Some(Hit { number: number.trim().parse().ok()?, name: name.trim().to_owned(), kib, sources })
}

/// A link to a file.
#[must_use]
pub fn file_link(name: &str, length: u64, hash: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let name: String = name
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { percent(&[byte]) })
        .collect();
    format!("ed2k://|file|{name}|{length}|{hash}|/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_amulecmd_prints() {
        let line = " > 4DA87C4AB986CC2B51FF877951A9379C\t/tmp/a/Incoming/t 1.bin";
        let wanted = Shared {
            hash: "4da87c4ab986cc2b51ff877951a9379c".to_owned(),
            name: "t 1.bin".to_owned(),
        };
        assert_eq!(shared(line), Some(wanted));
        assert_eq!(shared(" > \tAuto [Hi]\t0(0)\t0(0)\t0 bytes (0 bytes)\t0.00"), None);
        let line =
            "0.    big film.bin                                                  190.734     12";
        let wanted =
            Hit { number: 0, name: "big film.bin".to_owned(), kib: 190 * 1024 + 734, sources: 12 };
        assert_eq!(hit(line), Some(wanted));
        assert_eq!(hit("Nr.    Filename:     Size(MB):  Sources: "), None);
    }
}
