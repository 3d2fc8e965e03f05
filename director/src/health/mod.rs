//! Who judges real servers: their agents. Pure: reports and the time come in, judgements come out.

pub mod agents;
