//! Settings of the network under `/proc/sys/net`, of the calling thread's network namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

/// A setting of the network.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Sysctl(String);

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Reading failed.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Writing failed.
    #[error("write {value} to {path}: {source}{}", hint(.source))]
    Write {
        /// The file.
        path: String,
        /// The value.
        value: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl SysctlError {
    /// There is no such setting, or its interface is gone.
    pub fn is_missing(&self) -> bool {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self;
        source.kind() == io::ErrorKind::NotFound
    }
}

impl Sysctl {
    /// The setting at a path below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub fn at(path: &str) -> Sysctl {
        Sysctl(path.to_owned())
    }

    /// A setting of an interface (or `all`, `default`): `net/ipv4/conf/INTERFACE/NAME`. The parts
    /// are joined by slashes: interface names may have dots.
    pub fn ipv4_conf(interface: &str, name: &str) -> Sysctl {
        Sysctl(format!("net/ipv4/conf/{interface}/{name}"))
    }

    /// The same of IPv6: `net/ipv6/conf/INTERFACE/NAME`.
    pub fn ipv6_conf(interface: &str, name: &str) -> Sysctl {
        Sysctl(format!("net/ipv6/conf/{interface}/{name}"))
    }

    /// Below `/proc/sys`.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// The value, without the newline at its end.
    pub fn read(&self) -> Result<String, SysctlError> {
        match fs::read_to_string(self.file()) {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(source) => Err(SysctlError::Read {
                path: self.file().display().to_string(),
                source,
            }),
        }
    }

    /// Sets the value.
    pub fn write(&self, value: &str) -> Result<(), SysctlError> {
        fs::write(self.file(), value).map_err(|source| SysctlError::Write {
            path: self.file().display().to_string(),
            value: value.to_owned(),
            source,
        })
    }

    fn file(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(&self.0)
    }
}

/// What settings were before we changed them. It can be stored and read back.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Remembered(BTreeMap<Sysctl, Change>);

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Change {
    before: String,
    set: String,
}

impl Remembered {
    /// Remembers the value of a setting that is about to become `value`; true if it is to be
    /// written, false if it has that value already. What is remembered of it stays while the
    /// setting is what we made it; a value that someone else has set since is the one to remember.
    ///
    /// Store what is remembered **before** writing: a program killed in between must find it.
    pub fn note(&mut self, setting: &Sysctl, value: &str) -> Result<bool, SysctlError> {
        let before = setting.read()?;
        if before == value {
            return Ok(false);
        }
        let set = value.to_owned();
        match self.0.get_mut(setting) {
            Some(change) if change.set == before => change.set = set,
            _ => {
                self.0.insert(setting.clone(), Change { before, set });
            }
        }
        Ok(true)
    }

    /// Puts back what was before and forgets it. A setting that has been changed since by someone
    /// else, or whose interface is gone, is left alone. What failed stays remembered; the first
    /// failure is reported when all have been tried.
    pub fn restore(&mut self) -> Result<(), SysctlError> {
        self.restore_below("")
    }

    /// The same of those settings only whose path begins like this.
    pub fn restore_below(&mut self, path: &str) -> Result<(), SysctlError> {
        let mut failure = None;
        self.0.retain(|setting, change| {
            if !setting.path().starts_with(path) {
                return true;
            }
            let outcome = match setting.read() {
                Ok(now) if now == change.set => setting.write(&change.before),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => false,
                Err(error) if error.is_missing() => false,
                Err(error) => {
                    failure.get_or_insert(error);
                    true
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => " (needs root)",
        Some(libc::EROFS) => " (/proc/sys is mounted read-only: give this program a writable one)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::in_namespace;

    #[test]
    fn what_was_before_comes_back() {
        in_namespace(|| {
            let ours = Sysctl::ipv4_conf("all", "arp_ignore");
            let same = Sysctl::ipv4_conf("all", "arp_announce");
            let theirs = Sysctl::ipv4_conf("lo", "arp_announce");
            same.write("2").unwrap();
            let mut remembered = Remembered::default();
            assert!(remembered.note(&ours, "1").unwrap());
            ours.write("1").unwrap();
            assert!(!remembered.note(&ours, "1").unwrap());
            assert!(!remembered.note(&same, "2").unwrap());
            assert!(remembered.note(&theirs, "2").unwrap());
            theirs.write("1").unwrap();
            assert!(remembered.note(&theirs, "2").unwrap());
            theirs.write("2").unwrap();
            let changed = Sysctl::ipv4_conf("default", "arp_announce");
            assert!(remembered.note(&changed, "2").unwrap());
            changed.write("1").unwrap();

            let stored = serde_json::to_string(&remembered).unwrap();
            let mut remembered: Remembered = serde_json::from_str(&stored).unwrap();
            remembered.restore_below("net/ipv6/").unwrap();
            assert_eq!(ours.read().unwrap(), "1", "of another part of the network");
            remembered.restore().unwrap();
            assert!(remembered.is_empty());
            assert_eq!(ours.read().unwrap(), "0");
            assert_eq!(same.read().unwrap(), "2");
            assert_eq!(
                theirs.read().unwrap(),
                "1",
                "what it was before the last start"
            );
            assert_eq!(
                changed.read().unwrap(),
                "1",
                "changed by someone else since"
            );
        });
    }

    #[test]
    fn errors_name_file_and_value() {
        in_namespace(|| {
            let absent = Sysctl::ipv4_conf("absent", "arp_ignore");
            let error = absent.write("1").unwrap_err();
            assert!(error.is_missing());
            let text = error.to_string();
            assert!(
                text.starts_with("write 1 to /proc/sys/net/ipv4/conf/absent/arp_ignore: "),
                "{text}"
            );
            let error = Sysctl::ipv4_conf("lo", "arp_ignore")
                .write("many")
                .unwrap_err();
            assert!(error.to_string().contains("write many to "), "{error}");
        });
    }
}
