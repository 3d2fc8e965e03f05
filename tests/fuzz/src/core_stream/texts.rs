//! What is said where packets are looked into: FTP's words about data connections, and calls of SIP.

use super::places::{FTP, SIP};
use super::script::Script;

/// What a packet with such a port says; none of other ports.
pub(super) fn said(script: &mut Script<'_>, ports: (u16, u16)) -> Option<Vec<u8>> {
    let texts: &[&str] = match ports {
        (_, FTP) => &COMMANDS,
        (FTP, _) => &ANSWERS,
        (_, SIP) | (SIP, _) | (5070, _) => &CALLS,
        _ => return None,
    };
    Some(script.one_of(texts).as_bytes().to_vec())
}

const COMMANDS: [&str; 8] = [
    "PASV\r\n",
    "EPSV\r\n",
    "PORT 10,0,0,10,156,66\r\n",
    "EPRT |2|2001:db8::10|40002|\r\n",
    "EPRT |1|10,0,0,10|40002|\r\nPORT 10,0,0,10,156,66\r\n",
    "PORT 10,0,0,11,0,0\r\n",
    "",
    "PORT 10,0,0,10,1",
];
const ANSWERS: [&str; 8] = [
    "227 Entering Passive Mode (10,1,0,11,195,80).\r\n",
    "229 Entering Extended Passive Mode (|||50000|)\r\n",
    "227 Entering Passive Mode (10,1,0,12,0,21).\r\n",
    "227-many\r\n227 lines (1,2,3,4,5,6)\r\n",
    "229 (|||0|)\r\n",
    "229 (|||99999|)\r\n",
    "",
    "220 hello\r\n",
];
const CALLS: [&str; 6] = [
    "INVITE sip:a@b SIP/2.0\r\nCall-ID: one@host\r\n\r\n",
    "INVITE sip:a@b SIP/2.0\r\nCall-ID: two\r\n\r\n",
    "SIP/2.0 200 OK\r\ni: one@host\r\n\r\n",
    "BYE sip:a@b SIP/2.0\r\nVia: x\r\n\r\n",
    "",
    "OPTIONS\r\nCall-ID: cut",
];
