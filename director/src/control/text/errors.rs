//! ipvsadm's sentences for what the kernel, and so the director, refuses.

use crate::core::operation::{Operation, OperationError};

/// What `-L` of a missing service says.
pub const NO_SUCH_SERVICE: &str = "No such service";

/// The sentence for a refusal, which depends on what was asked for.
pub fn refusal(operation: &Operation, error: &OperationError) -> String {
    let sentence = match error {
        OperationError::ServiceExists(_) => "Service already exists",
        OperationError::NoSuchService(_) => match operation {
            Operation::AddServer(..) | Operation::EditServer(..) | Operation::DeleteServer(..) => {
                "Service not defined"
            }
            _ => NO_SUCH_SERVICE,
        },
        OperationError::NoSuchScheduler(_) | OperationError::NoSuchEngine(_) => {
            "Scheduler or persistence engine not found"
        }
        OperationError::ServerExists(..) => "Destination already exists",
        OperationError::NoSuchServer(..) => "No such destination",
        OperationError::OutOfRange(_) => "Numerical result out of range",
        OperationError::Invalid(_) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        OperationError::Unfit(what) => return what.clone(),
        OperationError::NotYet(what) => return not_yet(what),
    };
    sentence.to_owned()
}

/// The sentence for what IPVS can do and the director cannot. ipvsadm has none of its own.
pub fn not_yet(what: &str) -> String {
    format!("Operation not supported by this director yet: {what}")
}

/// What is said when there is no director; ipvsadm's first line, and a second of our own.
pub fn cannot_initialize(reason: &str, advice: &str) -> String {
    format!("Can't initialize ipvs: {reason}\n{advice}")
}
