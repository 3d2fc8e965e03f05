//! lvsadm's side of the control connection.

use super::protocol::{Answer, Piece, Request, decode_answer, encode_request};
use crate::core::operation::{Operation, OperationError, ServiceKey};
use crate::core::view::{
    AgentView, CheckView, ConnectionView, InfoView, ServiceView, StatsView, StatusView, SysctlView,
    TimeoutsView,
};

/// What a run of lvsadm needs of a director.
pub trait Api {
    /// Makes a change.
    fn apply(&mut self, operation: &Operation) -> Result<(), ApiError>;
    /// Makes changes one after the other, and says of each what became of it; one that is refused does not
    /// keep the next from being made. It ends when the director is gone.
    fn apply_all(&mut self, operations: &[Operation]) -> Vec<Result<(), ApiError>> {
        until_gone(operations, |operation| self.apply(operation))
    }
    /// All services.
    fn services(&mut self) -> Result<Vec<ServiceView>, ApiError>;
    /// One service.
    fn service(&mut self, key: &ServiceKey) -> Result<Option<ServiceView>, ApiError>;
    /// All connections, one after the other.
    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView)) -> Result<(), ApiError>;
    /// The timeouts that `--set` changes.
    fn timeouts(&mut self) -> Result<TimeoutsView, ApiError>;
    /// Counters and rates of all services together.
    fn totals(&mut self) -> Result<StatsView, ApiError>;
    /// The switches of `net.ipv4.vs`, by name.
    fn sysctls(&mut self) -> Result<Vec<SysctlView>, ApiError>;
    /// Version and table size.
    fn info(&mut self) -> Result<InfoView, ApiError>;
    /// What the director says of itself.
    fn status(&mut self) -> Result<StatusView, ApiError>;
    /// The agents of real servers.
    fn agents(&mut self) -> Result<Vec<AgentView>, ApiError>;
    /// The health checks of real servers.
    fn checks(&mut self) -> Result<Vec<CheckView>, ApiError>;
}

/// Carries lines between the two programs.
pub trait Transport {
    /// Sends lines, each with its newline.
    fn send(&mut self, line: &str) -> Result<(), Unreachable>;
    /// Waits for a line.
    fn receive(&mut self) -> Result<String, Unreachable>;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The director refuses.
    #[error(transparent)]
    Refused(#[from] OperationError),
    /// There is no director, or it went away.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The two programs do not understand each other.
    #[error("director and this program do not understand each other: {0}")]
    Misunderstood(String),
}

/// The director cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unreachable {
    /// What the system says.
    pub reason: String,
    /// What it means, and what to do about it.
    pub advice: String,
}

/// Asks a director over a transport.
#[derive(Debug)]
pub struct Client<T> {
    transport: T,
}

impl<T: Transport> Client<T> {
    /// Nothing is sent before something is asked.
    pub fn new(transport: T) -> Client<T> {
        Client { transport }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ApiError> {
        self.transport.send(&encode_request(request))?;
        self.receive()
    }

    fn is_done(&mut self) -> Result<(), ApiError> {
        match self.receive()? {
            Answer::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn receive(&mut self) -> Result<Answer, ApiError> {
        let line = self.transport.receive()?;
        match decode_answer(&line).map_err(ApiError::Misunderstood)? {
            Answer::Error(error) => Err(ApiError::Misunderstood(error.to_string())),
            Answer::Refused(error) => Err(ApiError::Refused(error)),
            answer => Ok(answer),
        }
    }

    /// A list in pieces; `piece_of` finds the piece in an answer.
    fn pieces<V>(
        &mut self,
        request: &Request,
        piece_of: impl Fn(Answer) -> Result<Piece<V>, ApiError>,
        each: &mut dyn FnMut(V),
    ) -> Result<(), ApiError> {
        let mut piece = piece_of(self.ask(request)?)?;
        loop {
            piece.items.into_iter().for_each(&mut *each);
            if !piece.more {
                return Ok(());
            }
            piece = piece_of(self.receive()?)?;
        }
    }
}

impl<T: Transport> Api for Client<T> {
    fn apply(&mut self, operation: &Operation) -> Result<(), ApiError> {
        self.transport
            .send(&encode_request(&Request::Apply(operation.clone())))?;
        self.is_done()
    }

    /// All requests go before the first answer is read.
    fn apply_all(&mut self, operations: &[Operation]) -> Vec<Result<(), ApiError>> {
        let requests = operations.iter().cloned().map(Request::Apply);
        let lines: String = requests.map(|request| encode_request(&request)).collect();
        if let Err(error) = self.transport.send(&lines) {
            return vec![Err(error.into())];
        }
        until_gone(operations, |_| self.is_done())
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, ApiError> {
        let mut services = Vec::new();
        let piece_of = |answer| match answer {
            Answer::Services(piece) => Ok(piece),
            _ => Err(unexpected()),
        };
        self.pieces(&Request::Services, piece_of, &mut |view| {
            services.push(view);
        })?;
        Ok(services)
    }

    fn service(&mut self, key: &ServiceKey) -> Result<Option<ServiceView>, ApiError> {
        match self.ask(&Request::Service(*key))? {
            Answer::Service(view) => Ok(view),
            _ => Err(unexpected()),
        }
    }

    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView)) -> Result<(), ApiError> {
        let piece_of = |answer| match answer {
            Answer::Connections(piece) => Ok(piece),
            _ => Err(unexpected()),
        };
        self.pieces(&Request::Connections, piece_of, each)
    }

    fn timeouts(&mut self) -> Result<TimeoutsView, ApiError> {
        match self.ask(&Request::Timeouts)? {
            Answer::Timeouts(view) => Ok(view),
            _ => Err(unexpected()),
        }
    }

    fn totals(&mut self) -> Result<StatsView, ApiError> {
        match self.ask(&Request::Totals)? {
            Answer::Totals(view) => Ok(view),
            _ => Err(unexpected()),
        }
    }

    fn sysctls(&mut self) -> Result<Vec<SysctlView>, ApiError> {
        match self.ask(&Request::Sysctls)? {
            Answer::Sysctls(views) => Ok(views),
            _ => Err(unexpected()),
        }
    }

    fn info(&mut self) -> Result<InfoView, ApiError> {
        match self.ask(&Request::Info)? {
            Answer::Info(view) => Ok(view),
            _ => Err(unexpected()),
        }
    }

    fn agents(&mut self) -> Result<Vec<AgentView>, ApiError> {
        let mut agents = Vec::new();
        let piece_of = |answer| match answer {
            Answer::Agents(piece) => Ok(piece),
            _ => Err(unexpected()),
        };
        self.pieces(&Request::Agents, piece_of, &mut |view| agents.push(view))?;
        Ok(agents)
    }

    fn checks(&mut self) -> Result<Vec<CheckView>, ApiError> {
        let mut checks = Vec::new();
        let piece_of = |answer| match answer {
            Answer::Checks(piece) => Ok(piece),
            _ => Err(unexpected()),
        };
        self.pieces(&Request::Checks, piece_of, &mut |view| checks.push(view))?;
        Ok(checks)
    }

    fn status(&mut self) -> Result<StatusView, ApiError> {
        match self.ask(&Request::Status)? {
            Answer::Status(view) => Ok(view),
            _ => Err(unexpected()),
        }
    }
}

/// The outcome of each, up to the first that nobody answers.
fn until_gone(
    operations: &[Operation],
    mut outcome: impl FnMut(&Operation) -> Result<(), ApiError>,
) -> Vec<Result<(), ApiError>> {
    let mut outcomes = Vec::new();
    for operation in operations {
        outcomes.push(outcome(operation));
        if let Some(Err(ApiError::Unreachable(_))) = outcomes.last() {
            break;
        }
    }
    outcomes
}

fn unexpected() -> ApiError {
    ApiError::Misunderstood("the answer belongs to another request".to_owned())
}
