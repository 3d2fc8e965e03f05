//! What both programs do to the machine they run on: netlink and sysctls; and systemd's watchdog.

pub mod netlink;
pub mod sysctl;
pub mod watchdog;

#[cfg(test)]
mod tests {
    use crate::sys::namespace::Namespace;

    /// Runs a test in a network namespace of its own.
    pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
        let namespace = Namespace::new().expect("a network namespace needs root");
        namespace
            .run(test)
            .expect("root may enter its own namespaces");
    }
}
