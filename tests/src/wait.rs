//! Waiting for conditions, never for a guess of seconds.

use std::thread::sleep;
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
