//! Who judges real servers: their agents and health checks; and who answers in the director's place. Pure:
//! reports, outcomes, answers and the time come in, judgements and news come out.

pub mod agents;
pub mod checks;
pub mod questions;
pub mod rivals;
