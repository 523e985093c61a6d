//! What a native message says, field by field, for people and for comparing.

use std::net::SocketAddrV4;

use data_encoding::HEXLOWER;

use super::native::Native;
use crate::{
    ed2k::wire::{
        ClientId, Tag, TagName, TagValue,
        search::{Comparison, Expression},
        server::{
            ClientMessage, Crypt, FileRecord, FoundSources, Holder, ServerMessage, Wanted,
            file_tag, ident_tag, login_tag,
        },
        udp::{ClientDatagram, Description, SearchOptions, ServerDatagram},
    },
    message::Field,
};

type Words = &'static [(u8, &'static str)];

const FILE_TAGS: Words = &[
    (file_tag::NAME, "name"),
    (file_tag::SIZE, "size"),
    (file_tag::TYPE, "type"),
    (file_tag::FORMAT, "format"),
    (file_tag::SOURCES, "sources"),
    (file_tag::COMPLETE_SOURCES, "complete sources"),
    (file_tag::SIZE_HIGH, "size high"),
];
const LOGIN_TAGS: Words = &[
    (login_tag::NICK, "nick"),
    (login_tag::VERSION, "version"),
    (login_tag::FLAGS, "flags"),
    (login_tag::EMULE_VERSION, "emule version"),
    (login_tag::PROGRAM, "program"),
];
const IDENT_TAGS: Words = &[
    (ident_tag::NAME, "name"),
    (ident_tag::DESCRIPTION, "description"),
    (ident_tag::VERSION, "version"),
    (ident_tag::AUX_PORTS, "other ports"),
];

/// The fields, in the order of the wire.
pub(super) fn fields(native: &Native) -> Vec<Field> {
    let mut out = Fields(Vec::new());
    match native {
        Native::TcpClient(message) => out.client(message),
        Native::TcpServer(message) => out.server(message),
        Native::UdpClient(datagram) => out.question(datagram),
        Native::UdpServer(datagram) => out.answer(datagram),
    }
    out.0
}

struct Fields(Vec<Field>);

impl Fields {
    fn add(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.push(Field::new(name, printable(&value.to_string())));
    }

    fn maybe(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn hash(&mut self, name: &str, hash: &[u8]) {
        self.add(name, HEXLOWER.encode(hash));
    }

    fn client(&mut self, message: &ClientMessage) {
        match message {
            ClientMessage::Login(login) => {
                self.hash("user hash", &login.user);
                self.add("id", login.id);
                self.add("port", login.port);
                self.tags(&login.tags, LOGIN_TAGS);
            }
            ClientMessage::Offer(files) => files.iter().for_each(|file| self.file(file)),
            ClientMessage::Search(expression) => self.add("search", search(expression)),
            ClientMessage::GetSources(wanted) | ClientMessage::GetSourcesObfuscated(wanted) => {
                self.wanted(wanted);
            }
            ClientMessage::Callback(id) => self.add("client", self::id(*id)),
            ClientMessage::GetServerList
            | ClientMessage::MoreResults
            | ClientMessage::Disconnect => {}
        }
    }

    fn server(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Reject | ServerMessage::CallbackFailed => {}
            ServerMessage::ServerList(servers) => self.servers(servers),
            ServerMessage::SearchResult(answer) => {
                answer.files.iter().for_each(|file| self.file(file));
                self.maybe("more", answer.more);
            }
            ServerMessage::Status { users, files } => {
                self.add("users", users);
                self.add("files", files);
            }
            ServerMessage::CallbackRequested(asked) => {
                self.add("client", format!("{}{}", asked.client, crypt(asked.crypt)));
            }
            ServerMessage::Message(text) => self.add("text", text),
            ServerMessage::IdChange(change) => {
                self.add("id", id(ClientId::from_number(change.id)));
                self.maybe("flags", change.flags.map(|flags| format!("{flags:#x}")));
                self.maybe("port", change.port);
                self.maybe("seen", change.seen);
                self.maybe("obfuscated port", change.obfuscated_port);
            }
            ServerMessage::Ident(ident) => {
                self.hash("hash", &ident.hash);
                self.add("server", ident.server);
                self.tags(&ident.tags, IDENT_TAGS);
            }
            ServerMessage::FoundSources(found) => self.sources(found, false),
            ServerMessage::FoundSourcesObfuscated(found) => self.sources(found, true),
        }
    }

    fn question(&mut self, datagram: &ClientDatagram) {
        match datagram {
            ClientDatagram::Status { challenge } | ClientDatagram::Description { challenge } => {
                self.challenge(*challenge);
            }
            ClientDatagram::GetSources(files) => {
                files.iter().for_each(|hash| self.hash("file", hash));
            }
            ClientDatagram::GetSources2(files) => {
                files.iter().for_each(|wanted| self.wanted(wanted));
            }
            ClientDatagram::Search { options, expression } => {
                match options {
                    SearchOptions::First => self.add("form", "98"),
                    SearchOptions::Second => self.add("form", "92"),
                    SearchOptions::Third(tags) => {
                        self.add("form", "90");
                        self.tags(tags, &[(0x0E, "search flags")]);
                    }
                }
                self.add("search", search(expression));
            }
            ClientDatagram::Callback { client, id } => {
                self.add("client", client);
                self.add("to call", self::id(*id));
            }
            ClientDatagram::ServerList(server) => self.add("server", server),
            ClientDatagram::ServerList2 => {}
        }
    }

    fn answer(&mut self, datagram: &ServerDatagram) {
        match datagram {
            ServerDatagram::Status(status) => {
                self.challenge(Some(status.challenge));
                self.add("users", status.users);
                self.add("files", status.files);
                self.maybe("max users", status.max_users);
                self.maybe("soft files", status.soft_files);
                self.maybe("hard files", status.hard_files);
                self.maybe("flags", status.flags.map(|flags| format!("{flags:#x}")));
                self.maybe("low ids", status.low_ids);
                if let Some(obfuscation) = status.obfuscation {
                    self.add("obfuscated udp port", obfuscation.udp_port);
                    self.add("obfuscated port", obfuscation.tcp_port);
                    self.add("key", format!("{:#010x}", obfuscation.key));
                }
            }
            ServerDatagram::Description(Description::Texts { name, description }) => {
                self.add("name", name);
                self.add("description", description);
            }
            ServerDatagram::Description(Description::Tags { challenge, tags }) => {
                self.challenge(Some(*challenge));
                self.tags(tags, IDENT_TAGS);
            }
            ServerDatagram::FoundSources(files) => {
                files.iter().for_each(|found| self.sources(found, false));
            }
            ServerDatagram::SearchResult(files) => files.iter().for_each(|file| self.file(file)),
            ServerDatagram::InvalidLowId(id) => self.add("client", self::id(*id)),
            ServerDatagram::ServerList(servers) => self.servers(servers),
        }
    }

    fn challenge(&mut self, challenge: Option<u32>) {
        self.maybe("challenge", challenge.map(|challenge| format!("{challenge:#010x}")));
    }

    fn wanted(&mut self, wanted: &Wanted) {
        self.hash("file", &wanted.hash);
        self.maybe("size", wanted.size);
    }

    fn servers(&mut self, servers: &[SocketAddrV4]) {
        servers.iter().for_each(|server| self.add("server", server));
    }

    fn sources(&mut self, found: &FoundSources, obfuscated: bool) {
        self.hash("file", &found.hash);
        for source in &found.sources {
            let crypt = if obfuscated { crypt(Some(source.crypt)) } else { String::new() };
            self.add("source", format!("{}:{}{crypt}", id(source.id), source.port));
        }
    }

    fn file(&mut self, file: &FileRecord) {
        self.hash("file", &file.hash);
        match file.holder {
            Holder::Complete => self.add("holder", "complete"),
            Holder::Incomplete => self.add("holder", "incomplete"),
            Holder::NOBODY => {}
            Holder::Client { id, port } => self.add("holder", format!("{}:{port}", self::id(id))),
        }
        self.tags(&file.tags, FILE_TAGS);
    }

    fn tags(&mut self, tags: &[Tag], words: Words) {
        for tag in tags {
            self.add(format!("tag {}", tag_name(&tag.name, words)), tag_value(&tag.value));
        }
    }
}

fn tag_name(name: &TagName, words: Words) -> String {
    match name {
        TagName::Id(id) => match words.iter().find(|(known, _)| known == id) {
            Some((_, word)) => (*word).to_owned(),
            None => format!("{id:02x}"),
        },
        TagName::Text(name) => printable(name),
    }
}

fn tag_value(value: &TagValue) -> String {
    match value {
        TagValue::Hash(hash) => HEXLOWER.encode(hash),
        TagValue::Text(text) => text.clone(),
        TagValue::Number(number) => number.to_string(),
        TagValue::Float(number) => number.to_string(),
        TagValue::Bytes(bytes) => HEXLOWER.encode(bytes),
    }
}

fn id(id: ClientId) -> String {
    match id {
        ClientId::High(address) => address.to_string(),
        ClientId::Low(number) => format!("low id {number}"),
    }
}

fn crypt(crypt: Option<Crypt>) -> String {
    let Some(crypt) = crypt else { return String::new() };
    let user = crypt.user.map(|user| format!(" user {}", HEXLOWER.encode(&user)));
    format!(" options {}{}", crypt.options, user.unwrap_or_default())
}

/// A search in words and brackets.
fn search(expression: &Expression) -> String {
    match expression {
        Expression::And(one, other) => format!("({} AND {})", search(one), search(other)),
        Expression::Or(one, other) => format!("({} OR {})", search(one), search(other)),
        Expression::AndNot(one, other) => format!("({} NOT {})", search(one), search(other)),
        Expression::Words(words) => format!("{words:?}"),
        Expression::Text { tag, value } => format!("{}={value:?}", tag_name(tag, FILE_TAGS)),
        Expression::Number { tag, comparison, value } => {
            let sign = match comparison {
                Comparison::Equal => "=",
                Comparison::Greater => ">",
                Comparison::Less => "<",
                Comparison::AtLeast => ">=",
                Comparison::AtMost => "<=",
                Comparison::NotEqual => "!=",
            };
            format!("{}{sign}{value}", tag_name(tag, FILE_TAGS))
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
