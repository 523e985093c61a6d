//! Opcodes between clients, and the names of those that are read and let go.

use super::super::Protocol;

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: u8 = $value;)*
    };
}

opcodes! {
    /// `OP_SENDINGPART`
    SENDING_PART = 0x46;
    /// `OP_REQUESTPARTS`
    REQUEST_PARTS = 0x47;
    /// `OP_FILEREQANSNOFIL`
    NO_SUCH_FILE = 0x48;
    /// `OP_END_OF_DOWNLOAD`
    END_OF_DOWNLOAD = 0x49;
    /// `OP_SETREQFILEID`
    FILE_STATUS_REQUEST = 0x4F;
    /// `OP_FILESTATUS`
    FILE_STATUS = 0x50;
    /// `OP_HASHSETREQUEST`
    HASH_SET_REQUEST = 0x51;
    /// `OP_HASHSETANSWER`
    HASH_SET = 0x52;
    /// `OP_STARTUPLOADREQ`
    START_UPLOAD = 0x54;
    /// `OP_ACCEPTUPLOADREQ`
    ACCEPT_UPLOAD = 0x55;
    /// `OP_CANCELTRANSFER`
    CANCEL_TRANSFER = 0x56;
    /// `OP_OUTOFPARTREQS`
    OUT_OF_PARTS = 0x57;
    /// `OP_REQUESTFILENAME`
    FILE_NAME_REQUEST = 0x58;
    /// `OP_REQFILENAMEANSWER`
    FILE_NAME_ANSWER = 0x59;
    /// `OP_QUEUERANK`
    QUEUE_RANK = 0x5C;
    /// `C5` `OP_COMPRESSEDPART`
    COMPRESSED_PART = 0x40;
    /// `C5` `OP_QUEUERANKING`
    QUEUE_RANKING = 0x60;
    /// `C5` `OP_REQUESTSOURCES`
    SOURCES_REQUEST = 0x81;
    /// `C5` `OP_ANSWERSOURCES`
    SOURCES = 0x82;
    /// `C5` `OP_REQUESTSOURCES2`
    SOURCES_REQUEST_2 = 0x83;
    /// `C5` `OP_ANSWERSOURCES2`
    SOURCES_2 = 0x84;
    /// `C5` `OP_AICHREQUEST`
    AICH_REQUEST = 0x9B;
    /// `C5` `OP_AICHANSWER`
    AICH_ANSWER = 0x9C;
    /// `C5` `OP_AICHFILEHASHANS`
    AICH_ROOT = 0x9D;
    /// `C5` `OP_AICHFILEHASHREQ`
    AICH_ROOT_REQUEST = 0x9E;
    /// `C5` `OP_COMPRESSEDPART_I64`
    COMPRESSED_PART_64 = 0xA1;
    /// `C5` `OP_SENDINGPART_I64`
    SENDING_PART_64 = 0xA2;
    /// `C5` `OP_REQUESTPARTS_I64`
    REQUEST_PARTS_64 = 0xA3;
}

/// The name of a message that is let go, because nothing here follows from it.
#[must_use]
pub const fn ignored(protocol: Protocol, opcode: u8) -> Option<&'static str> {
    Some(match (protocol, opcode) {
        (Protocol::EDonkey, 0x4A) => "OP_ASKSHAREDFILES",
        (Protocol::EDonkey, 0x4B) => "OP_ASKSHAREDFILESANSWER",
        (Protocol::EDonkey, 0x4D) => "OP_CHANGE_CLIENT_ID",
        (Protocol::EDonkey, 0x4E) => "OP_MESSAGE",
        (Protocol::EDonkey, 0x5B) => "OP_CHANGE_SLOT",
        (Protocol::EDonkey, 0x5D) => "OP_ASKSHAREDDIRS",
        (Protocol::EDonkey, 0x5E) => "OP_ASKSHAREDFILESDIR",
        (Protocol::EDonkey, 0x5F) => "OP_ASKSHAREDDIRSANS",
        (Protocol::EDonkey, 0x60) => "OP_ASKSHAREDFILESDIRANS",
        (Protocol::EDonkey, 0x61) => "OP_ASKSHAREDDENIEDANS",
        (Protocol::EMule, 0x61) => "OP_FILEDESC",
        (Protocol::EMule, 0x71) => "OP_VERIFYUPSREQ",
        (Protocol::EMule, 0x72) => "OP_VERIFYUPSANSWER",
        (Protocol::EMule, 0x73) => "OP_UDPVERIFYUPREQ",
        (Protocol::EMule, 0x74) => "OP_UDPVERIFYUPA",
        (Protocol::EMule, 0x85) => "OP_PUBLICKEY",
        (Protocol::EMule, 0x86) => "OP_SIGNATURE",
        (Protocol::EMule, 0x87) => "OP_SECIDENTSTATE",
        (Protocol::EMule, 0x90) => "OP_REQUESTPREVIEW",
        (Protocol::EMule, 0x91) => "OP_PREVIEWANSWER",
        (Protocol::EMule, 0x92) => "OP_MULTIPACKET",
        (Protocol::EMule, 0x93) => "OP_MULTIPACKETANSWER",
        (Protocol::EMule, 0x94) => "OP_PEERCACHE_QUERY",
        (Protocol::EMule, 0x95) => "OP_PEERCACHE_ANSWER",
        (Protocol::EMule, 0x96) => "OP_PEERCACHE_ACK",
        (Protocol::EMule, 0x97) => "OP_PUBLICIP_REQ",
        (Protocol::EMule, 0x98) => "OP_PUBLICIP_ANSWER",
        (Protocol::EMule, 0x99) => "OP_CALLBACK",
        (Protocol::EMule, 0x9A) => "OP_REASKCALLBACKTCP",
        (Protocol::EMule, 0x9F) => "OP_BUDDYPING",
        (Protocol::EMule, 0xA0) => "OP_BUDDYPONG",
        (Protocol::EMule, 0xA4) => "OP_MULTIPACKET_EXT",
        (Protocol::EMule, 0xA5) => "OP_CHATCAPTCHAREQ",
        (Protocol::EMule, 0xA6) => "OP_CHATCAPTCHARES",
        _ => return None,
    })
}
