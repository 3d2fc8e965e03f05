//! Who judges real servers: their agents; and who answers in the director's place. Pure: reports, answers
//! and the time come in, judgements and news come out.

pub mod agents;
pub mod rivals;
