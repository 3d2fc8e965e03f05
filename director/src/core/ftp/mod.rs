//! FTP by NAT: its control connection says where data connections go, and these follow it to its real server
//! (`ip_vs_ftp.c`).
//!
//! With passive transfers the server says so (`227`, `229`), and its client is told the virtual address
//! instead. With active ones the client says so (`PORT`, `EPRT`). What points to somebody else than the two ends
//! of the control connection is left as it is, and nothing is made of it.

mod expected;
mod numbers;
mod words;

pub(super) use expected::{Expected, Invitation, Keys, Transfers};
pub(super) use numbers::Numbers;
pub(super) use words::{of_client, of_server};
