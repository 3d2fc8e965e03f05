//! FTP by NAT and FULLNAT: its control connection says where data connections go, and these follow it to its real server
//! (`ip_vs_ftp.c`).
//!
//! With passive transfers the server says so (`227`, `229`), and its client is told the virtual address
//! instead. With active ones the client says so (`PORT`, `EPRT`), and by FULLNAT its server is told the local address.
//! What points to somebody else than the two ends of the control connection is left as it is, and nothing is made
//! of it; so is a `227` to a client of IPv6, which has no room for its address.

mod expected;
mod numbers;
mod words;

pub(super) use expected::{Invitation, Transfers};
pub(super) use numbers::Moved;
pub(super) use words::{Announcement, of_client, of_server};
