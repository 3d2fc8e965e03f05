//! Who judges real servers: their agents and health checks. Pure: reports, outcomes and the time come in,
//! judgements come out.

pub mod agents;
pub mod checks;
