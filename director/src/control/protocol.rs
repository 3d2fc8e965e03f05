//! The protocol of the control socket: one JSON object a line, a request and its answer in turn.
//!
//! ```text
//! {"version":1,"request":{"apply":{"delete_service":{"mark":{"mark":7,"family":"v4"}}}}}
//! {"version":1,"answer":{"refused":{"no_such_service":{"mark":{"mark":7,"family":"v4"}}}}}
//! ```
//!
//! Long lists come in pieces, each an answer of its own; all but the last say that there is more.
//! Requests may be sent without waiting for answers, which come in the order of the requests. A
//! request that is not understood gets an error that names what is wrong with it, and the connection
//! goes on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::operation::{Operation, OperationError, ServiceKey};
use crate::core::view::{
    AgentView, CheckView, ConnectionView, InfoView, ServiceView, StatsView, StatusView, SysctlView,
    TimeoutsView,
};

/// The version both sides have to speak. It changes when an old program would misunderstand a new
/// one.
pub const VERSION: u32 = 1;

/// The longest line of a request, without its newline.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make a change.
    Apply(Operation),
    /// All services.
    Services,
    /// One service.
    Service(ServiceKey),
    /// All connections and templates.
    Connections,
    /// The timeouts that `--set` changes.
    Timeouts,
    /// Counters and rates of all services together.
    Totals,
    /// The switches of `net.ipv4.vs`.
    Sysctls,
    /// Version and table size.
    Info,
    /// What the director says of itself.
    Status,
    /// The agents of real servers.
    Agents,
    /// The health checks of real servers.
    Checks,
}

/// What the director answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The change was made.
    Done,
    /// The change was refused; nothing of it was done.
    Refused(OperationError),
    /// Some services.
    Services(Piece<ServiceView>),
    /// The service, if there is one.
    Service(Option<ServiceView>),
    /// Some connections.
    Connections(Piece<ConnectionView>),
    /// The timeouts.
    Timeouts(TimeoutsView),
    /// Counters and rates of all services together.
    Totals(StatsView),
    /// The switches of `net.ipv4.vs`.
    Sysctls(Vec<SysctlView>),
    /// Version and table size.
    Info(InfoView),
    /// The director's state.
    Status(StatusView),
    /// Some agents.
    Agents(Piece<AgentView>),
    /// Some checks.
    Checks(Piece<CheckView>),
    /// The request was not understood.
    Error(RequestError),
}

/// A piece of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece<T> {
    /// May be empty.
    pub items: Vec<T>,
    /// Whether another piece follows.
    pub more: bool,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestError {
    /// Not JSON, or not of the form of a request.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// A request that does not exist, or one with wrong contents.
    #[error("unknown request: {0}")]
    Unknown(String),
    /// More than [`MAX_REQUEST_BYTES`].
    #[error("a request may have {MAX_REQUEST_BYTES} bytes, and this one has more")]
    TooLong,
    /// Somebody else's version.
    #[error("the request has version {0}, and this director speaks version {VERSION}")]
    Version(u32),
}

/// A request as a line, newline included.
pub fn encode_request(request: &Request) -> String {
    line(&Outgoing {
        version: VERSION,
        request: Some(request),
        answer: None,
    })
}

/// An answer as a line, newline included.
pub fn encode_answer(answer: &Answer) -> String {
    line(&Outgoing {
        version: VERSION,
        request: None,
        answer: Some(answer),
    })
}

/// Reads the line of a request; the newline may be there or not.
pub fn decode_request(line: &[u8]) -> Result<Request, RequestError> {
    // The version first: what else a strange version says may not make sense.
    let incoming: Incoming =
        serde_json::from_slice(line).map_err(|error| RequestError::Malformed(error.to_string()))?;
    if incoming.version != VERSION {
        return Err(RequestError::Version(incoming.version));
    }
    let request = incoming
        .request
        .ok_or_else(|| RequestError::Malformed("missing field `request`".to_owned()))?;
    serde_json::from_value(request).map_err(|error| RequestError::Unknown(error.to_string()))
}

/// Reads the line of an answer. The error is a sentence.
pub fn decode_answer(line: &str) -> Result<Answer, String> {
    let incoming: IncomingAnswer = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if incoming.version != VERSION {
        return Err(format!(
            "the director speaks version {} of the control protocol, and this program version {VERSION}",
            incoming.version
        ));
    }
    Ok(incoming.answer)
}

#[derive(Serialize)]
struct Outgoing<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a Request>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a Answer>,
}

#[derive(Deserialize)]
struct Incoming {
    version: u32,
    request: Option<Value>,
}

#[derive(Deserialize)]
struct IncomingAnswer {
    version: u32,
    answer: Answer,
}

fn line(outgoing: &Outgoing<'_>) -> String {
    let mut line = serde_json::to_string(outgoing)
        .expect("these types have string keys only and nothing that fails to serialize");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_a_request_are_named() {
        let error = |line: &str| decode_request(line.as_bytes()).unwrap_err().to_string();
        assert!(error("rubbish").starts_with("malformed request: expected value"));
        assert!(error("{}").contains("missing field `version`"));
        assert!(error(r#"{"version":1}"#).contains("missing field `request`"));
        assert!(error(r#"{"version":7,"request":"future"}"#).contains("version 7"));
        assert!(error(r#"{"version":1,"request":"dance"}"#).contains("unknown variant `dance`"));
        assert!(
            error(r#"{"version":1,"request":{"service":{"mark":{"mark":-1,"family":"v4"}}}}"#)
                .contains("-1")
        );
    }

    #[test]
    fn an_answer_of_another_version_is_not_understood() {
        let error = decode_answer(r#"{"version":2,"answer":"done"}"#).unwrap_err();
        assert!(error.contains("speaks version 2"), "{error}");
    }
}
