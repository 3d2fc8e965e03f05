//! What ipvsadm prints: listings, saved rules, help, and its sentences for errors.

pub mod connections;
pub mod errors;
pub mod help;
pub mod listing;
pub mod local_addresses;
mod name;
mod number;
mod order;
pub mod proc;
pub mod save;
pub mod servers;
pub mod status;
