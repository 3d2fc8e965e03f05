//! Administration: ipvsadm's grammar, the texts it prints, and the protocol of the control socket.
//!
//! | module | what is in it |
//! |---|---|
//! | [`command`] | a command line, by popt's rules and ipvsadm's checks, becomes a [`command::Command`] |
//! | [`text`] | listings, saved rules, help, the sentences for the kernel's errors |
//! | [`names`] | host and service names, asked from outside |
//! | [`protocol`] | requests and answers on the control socket |
//! | [`session`] | the director's side of one control connection: bytes in, bytes out |
//! | [`client`] | lvsadm's side of it |
//! | [`run`] | one run of `lvsadm`, `lvsadm-save` or `lvsadm-restore` |
//!
//! All of it is pure. What ipvsadm 1.31 does was read in its source and recorded from its binary; the
//! records are in `tests/golden/cli`.

pub mod client;
pub mod command;
pub mod names;
pub mod protocol;
pub mod run;
pub mod session;
pub mod text;
