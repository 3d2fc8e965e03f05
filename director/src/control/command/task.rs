//! The first option of a command line, which has to be a command.

use super::legality::Verb;
use super::options::Tag;
use super::popt::Found;
use super::{DaemonRole, UsageError};

/// What the first option of a command line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Help,
    Version,
    Do(Task),
}

/// A command that takes options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Plain(Verb),
    StartDaemon(DaemonRole),
    StopDaemon(DaemonRole),
}

impl Order {
    /// The command an option stands for, if it stands for one.
    pub(super) fn of(found: &Found<'_>) -> Result<Option<Order>, UsageError> {
        let verb = match found.tag {
            Tag::AddService => Verb::AddService,
            Tag::EditService => Verb::EditService,
            Tag::DeleteService => Verb::DeleteService,
            Tag::AddServer => Verb::AddServer,
            Tag::EditServer => Verb::EditServer,
            Tag::DeleteServer => Verb::DeleteServer,
            Tag::Clear => Verb::Flush,
            Tag::List => Verb::List,
            Tag::Zero => Verb::Zero,
            Tag::Set => Verb::Set,
            Tag::Restore => Verb::Restore,
            Tag::Save => Verb::Save,
            Tag::AddLocalAddress => Verb::AddLocalAddress,
            Tag::DeleteLocalAddress => Verb::DeleteLocalAddress,
            Tag::GetLocalAddresses => Verb::GetLocalAddresses,
            Tag::Help => return Ok(Some(Order::Help)),
            Tag::Version => return Ok(Some(Order::Version)),
            Tag::StartDaemon => {
                let role = role(found)
                    .ok_or_else(|| UsageError::fault("illegal start-daemon parameter specified"))?;
                return Ok(Some(Order::Do(Task::StartDaemon(role))));
            }
            Tag::StopDaemon => {
                let role = role(found)
                    .ok_or_else(|| UsageError::fault("illegal start_daemon specified"))?;
                return Ok(Some(Order::Do(Task::StopDaemon(role))));
            }
            _ => return Ok(None),
        };
        Ok(Some(Order::Do(Task::Plain(verb))))
    }
}

fn role(found: &Found<'_>) -> Option<DaemonRole> {
    match found.argument? {
        "master" => Some(DaemonRole::Master),
        "backup" => Some(DaemonRole::Backup),
        _ => None,
    }
}
