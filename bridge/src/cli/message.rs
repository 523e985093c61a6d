//! `p2p-bridge message`: single tracker messages, without a daemon.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write},
    net::IpAddr,
    path::PathBuf,
};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER_PERMISSIVE;
use p2pbridge_adapters::{
    message::{DecodeError, Decoded, Hint, MAX_MESSAGE},
    registry,
};
use p2pbridge_proto::{Envelope, FILE_DESCRIPTOR_SET, Name, v1};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _,
    SerializeOptions, Value,
};
use serde_json::json;

use super::{client::CliError, names::print_json, table::plain};

/// What to do with messages.
#[derive(Debug, Args)]
pub struct MessageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a captured tracker message says, as it was sent and as the unified message
    Decode(DecodeArgs),
    /// Lists the kinds of messages that are known
    Kinds,
}

#[derive(Debug, Args)]
struct DecodeArgs {
    /// The bytes: an HTTP message, a query, bencode, or a UDP packet without IP headers; standard input when left out
    file: Option<PathBuf>,
    /// The bytes are written as hex; blanks and line ends between them are passed over
    #[arg(long)]
    hex: bool,
    /// The kind of message, instead of recognising it; `message kinds` lists them
    #[arg(long = "as", value_name = "KIND")]
    kind: Option<String>,
    /// The protocol, instead of trying all
    #[arg(long)]
    protocol: Option<String>,
    /// It was sent over IPv6; a UDP answer does not tell
    #[arg(long)]
    ipv6: bool,
    /// The address from which a request came
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// A name that was asked about, in order; a UDP answer to a scrape does not repeat them
    #[arg(long, value_name = "NAME")]
    about: Vec<Name>,
}

/// Does it.
///
/// # Errors
/// When the bytes cannot be read, or are no message.
pub fn run(args: MessageArgs, json: bool) -> Result<(), CliError> {
    match args.command {
        Command::Decode(args) => decode(args, json),
        Command::Kinds => kinds(json),
    }
}

fn kinds(json: bool) -> Result<(), CliError> {
    let all = registry::PROTOCOLS.iter().map(|known| (known.protocol, known.messages.kinds));
    if json {
        return print_json(&all.map(|(word, kinds)| (word, json!(kinds))).collect());
    }
    let mut out = String::new();
    for (protocol, kinds) in all {
        for kind in kinds {
            let _ = writeln!(out, "{protocol}  {kind}");
        }
    }
    Ok(io::stdout().write_all(out.as_bytes())?)
}

fn decode(args: DecodeArgs, json: bool) -> Result<(), CliError> {
    let bytes = read(args.file.as_ref(), args.hex)?;
    let hint = Hint { kind: args.kind, ipv6: args.ipv6, seen: args.from, names: args.about };
    let (protocol, decoded) = decoded(&bytes, &hint, args.protocol.as_deref())?;
    let envelope = decoded.unified.clone().map(|body| {
        let envelope = v1::Envelope::from(Envelope::new(body));
        reflected(&envelope)
    });
    let envelope = match envelope {
        Ok(envelope) => Ok(envelope?),
        Err(reason) => Err(reason),
    };
    if json {
        return print_json(&as_json(protocol, &decoded, envelope.ok().as_ref())?);
    }
    Ok(io::stdout().write_all(as_text(protocol, &decoded, envelope).as_bytes())?)
}

fn decoded(
    bytes: &[u8],
    hint: &Hint,
    protocol: Option<&str>,
) -> Result<(&'static str, Decoded), CliError> {
    let refused = |error: DecodeError| CliError::Argument(plain(&error.to_string()));
    let Some(word) = protocol else {
        let (descriptor, decoded) = registry::decode(bytes, hint).map_err(refused)?;
        return Ok((descriptor.protocol, decoded));
    };
    let descriptor = registry::protocol(word)
        .ok_or_else(|| CliError::Argument(format!("no protocol is called `{word}`")))?;
    Ok((descriptor.protocol, (descriptor.messages.decode)(bytes, hint).map_err(refused)?))
}

fn read(file: Option<&PathBuf>, hex: bool) -> Result<Vec<u8>, CliError> {
    let path = || file.cloned().unwrap_or_else(|| "standard input".into());
    let failed = |problem: String| CliError::File { path: path(), problem };
    let source: Box<dyn Read> = match file {
        Some(file) => Box::new(File::open(file).map_err(|error| failed(error.to_string()))?),
        None => Box::new(io::stdin().lock()),
    };
    // Twice as many letters as bytes, and as many blanks again.
    let most = if hex { 4 * MAX_MESSAGE } else { MAX_MESSAGE };
    let mut bytes = Vec::new();
    let read = source.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() > most {
        return Err(failed(format!("it is larger than a message can be ({MAX_MESSAGE} bytes)")));
    }
    if hex {
        bytes.retain(|byte| !byte.is_ascii_whitespace());
        return HEXLOWER_PERMISSIVE
            .decode(&bytes)
            .map_err(|error| failed(format!("it is no hex: {error}")));
    }
    Ok(bytes)
}

/// The message with its names: for the JSON of the protobuf mapping, and for people.
fn reflected(envelope: &v1::Envelope) -> Result<DynamicMessage, CliError> {
    let broken = |error: &dyn ToString| CliError::Argument(error.to_string());
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| broken(&error))?;
    let descriptor = pool
        .get_message_by_name("p2pbridge.v1.Envelope")
        .ok_or_else(|| broken(&"the descriptors lack the envelope"))?;
    DynamicMessage::decode(descriptor, &envelope.encode_to_vec()[..]).map_err(|e| broken(&e))
}

fn as_json(
    protocol: &str,
    decoded: &Decoded,
    envelope: Option<&DynamicMessage>,
) -> Result<serde_json::Value, CliError> {
    let options = SerializeOptions::new().stringify_64_bit_integers(true);
    let envelope = envelope
        .map(|message| message.serialize_with_options(serde_json::value::Serializer, &options))
        .transpose()
        .map_err(|error| CliError::Argument(error.to_string()))?;
    let field = |(name, value): (&String, &String)| json!({ "name": name, "value": value });
    let fields = decoded.fields.iter().map(|it| field((&it.name, &it.value)));
    let lost = decoded.lost.iter().map(|lost| json!({ "field": lost.field, "why": lost.why }));
    Ok(json!({
        "protocol": protocol,
        "kind": decoded.kind,
        "fields": fields.collect::<Vec<_>>(),
        "envelope": envelope,
        "no_envelope": decoded.unified.as_ref().err(),
        "lost": lost.collect::<Vec<_>>(),
    }))
}

fn as_text(
    protocol: &str,
    decoded: &Decoded,
    envelope: Result<DynamicMessage, &'static str>,
) -> String {
    let mut out = format!("{}: {} ({})\n", protocol, decoded.title, decoded.kind);
    let width = decoded.fields.iter().map(|field| field.name.chars().count()).max();
    let width = width.unwrap_or(0).min(40);
    for field in &decoded.fields {
        let _ = writeln!(out, "  {:width$}  {}", plain(&field.name), plain(&field.value));
    }
    match envelope {
        Ok(envelope) => {
            out.push_str("\nthe unified message:\n");
            fields_text(&mut out, &envelope, 1);
        }
        Err(reason) => {
            let _ = writeln!(out, "\nno unified message: {reason}");
        }
    }
    if !decoded.lost.is_empty() {
        out.push_str("\nlost, or changed, when it becomes a message of this kind again:\n");
        let width = decoded.lost.iter().map(|lost| lost.field.chars().count()).max();
        let width = width.unwrap_or(0).min(40);
        for lost in &decoded.lost {
            let why = lost.why.unwrap_or("a fault of the bridge");
            let _ = writeln!(out, "  {:width$}  {why}", plain(&lost.field));
        }
    }
    out
}

/// The fields, one a line, those of inner messages further in. Numbers that are 0 are among them, but for the
/// envelope's own.
fn fields_text(out: &mut String, message: &DynamicMessage, depth: usize) {
    for field in message.descriptor().fields() {
        let number =
            matches!(field.kind(), Kind::Uint32 | Kind::Uint64 | Kind::Int32 | Kind::Enum(_));
        let zero = number && !field.supports_presence() && !field.is_list() && depth > 1;
        if !message.has_field(&field) && !zero {
            continue;
        }
        match &*message.get_field(&field) {
            Value::List(values) => {
                values.iter().for_each(|value| value_text(out, &field, value, depth));
            }
            value => value_text(out, &field, value, depth),
        }
    }
}

fn value_text(out: &mut String, field: &FieldDescriptor, value: &Value, depth: usize) {
    let name = field.name();
    let indent = "  ".repeat(depth);
    let text = match value {
        Value::Message(message)
            if message.descriptor().full_name() == "google.protobuf.Duration" =>
        {
            let part = |name: &str| message.get_field_by_name(name).map(|it| it.into_owned());
            let seconds = part("seconds").and_then(|it| it.as_i64()).unwrap_or_default();
            let nanos = part("nanos").and_then(|it| it.as_i32()).unwrap_or_default();
            match nanos {
                0 => format!("{seconds} s"),
                nanos => format!("{seconds}.{nanos:09} s"),
            }
        }
        Value::Message(message) => {
            let _ = writeln!(out, "{indent}{name}");
            fields_text(out, message, depth + 1);
            return;
        }
        Value::Bytes(bytes) if bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) => {
            format!("\"{}\"", bytes.escape_ascii())
        }
        Value::Bytes(bytes) => data_encoding::HEXLOWER.encode(bytes),
        Value::String(text) => plain(text),
        Value::Bool(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::EnumNumber(number) => match field.kind() {
            Kind::Enum(words) => words
                .get_value(*number)
                .map_or_else(|| number.to_string(), |word| word.name().to_owned()),
            _ => number.to_string(),
        },
        Value::List(values) => format!("{} values", values.len()),
        Value::Map(entries) => {
            let keys: Vec<_> = entries.keys().filter_map(MapKey::as_str).collect();
            keys.join(", ")
        }
    };
    let _ = writeln!(out, "{indent}{name}  {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &[u8] = b"d14:failure reason4:busy8:retry ini5ee";

    fn shown(bytes: &[u8]) -> (String, serde_json::Value) {
        let (protocol, decoded) = decoded(bytes, &Hint::default(), None).unwrap();
        let envelope = decoded
            .unified
            .clone()
            .map(|body| reflected(&v1::Envelope::from(Envelope::new(body))).unwrap());
        let json = as_json(protocol, &decoded, envelope.as_ref().ok()).unwrap();
        (as_text(protocol, &decoded, envelope), json)
    }

    #[test]
    fn a_message_is_shown_as_sent_as_unified_and_as_json() {
        let (text, json) = shown(REFUSAL);
        assert!(text.starts_with("bittorrent: HTTP refusal (http-failure)\n"), "{text}");
        for line in [
            "  failure reason  busy\n",
            "  retry in        5 min\n",
            "    retry_after  300 s\n",
            "    code  ERROR_CODE_OVERLOADED\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(json["envelope"]["error"]["code"], "ERROR_CODE_OVERLOADED");
        assert_eq!(json["envelope"]["error"]["retryAfter"], "300s");
        assert_eq!(json["lost"], json!([]));
        let (text, json) = shown(&[&0x417_2710_1980_u64.to_be_bytes()[..], &[0; 8]].concat());
        assert!(text.contains("no unified message: a connect proves"), "{text}");
        assert_eq!(json["envelope"], serde_json::Value::Null);
    }

    #[test]
    fn hex_is_read_with_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, "64 65\n").unwrap();
        assert_eq!(read(Some(&file), true).unwrap(), b"de");
        std::fs::write(&file, "6g").unwrap();
        let error = read(Some(&file), true).unwrap_err().to_string();
        assert!(error.contains("it is no hex"), "{error}");
        assert!(decoded(b"", &Hint::default(), Some("x")).unwrap_err().to_string().contains("`x`"));
    }
}
