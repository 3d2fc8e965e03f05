//! Waiting for conditions, never for a guess of seconds.

use std::fs;
use std::process::{Command, exit, id};
use std::sync::Once;
use std::thread::{current, sleep, spawn};
use std::time::{Duration, Instant};

/// Looks at a condition until it holds or the time is up. Whether it held.
pub fn wait_for(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(10));
    }
}

/// Long enough for anything that happens at all, also on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A whole file of tests has an end too: one that hangs fails with the names of its threads, which
/// are those of its tests, and not with the patience of whoever waits for all of them.
///
/// Programs that are no tests go on for as long as they like.
pub fn end_of_tests() {
    static WATCHED: Once = Once::new();
    if current().name().is_none_or(|name| name == "main") {
        return;
    }
    WATCHED.call_once(|| {
        spawn(|| {
            sleep(LONGEST);
            let minutes = LONGEST.as_secs() / 60;
            eprintln!("tests hang: still running after {minutes} minutes:");
            for (thread, name) in threads() {
                let place = fs::read_to_string(format!("/proc/self/task/{thread}/wchan"));
                eprintln!("  {} ({})", name.trim(), place.unwrap_or_default());
            }
            // The programs that they started would outlive them.
            let _ = Command::new("pkill")
                .args(["-KILL", "-P", &id().to_string()])
                .status();
            exit(101);
        });
    });
}

fn threads() -> Vec<(String, String)> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let named = tasks.flatten().map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        (task.file_name().to_string_lossy().into_owned(), name)
    });
    named.collect()
}

/// Several times what the longest file takes on two busy cores.
const LONGEST: Duration = Duration::from_secs(15 * 60);
