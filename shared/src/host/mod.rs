//! What both programs do to the machine they run on: netlink and sysctls.

pub mod netlink;
pub mod sysctl;

#[cfg(test)]
mod tests {
    use std::{panic, thread};

    use nix::sched::{CloneFlags, unshare};

    /// Runs a test in a thread with a fresh network namespace, which goes when the thread ends.
    pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
        thread::scope(|scope| {
            let outcome = scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
                    test();
                })
                .join();
            if let Err(panic) = outcome {
                panic::resume_unwind(panic);
            }
        });
    }
}
