//! One check of one server through time: keepalived's logic, as a value.
//!
//! A server is up until checks fail, or with `alpha` down until one succeeds. While it is up, a failure is
//! followed by `retry` more attempts, `delay_before_retry` apart; if all of them fail too it is down. While it
//! is down it is asked once an interval, and one success brings it up. With `alpha` the first outcome counts at
//! once. Of several URLs one is asked each round; one that fails is what is retried, and asked again while the
//! server is down; when it answers, all have to do so from the first one on before the server is up again.

use std::time::Duration;

use shared::time::Time;

use super::failure::{Failure, Outcome, Pass};
use super::model::{Check, Timing};

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Checker {
    up: bool,
    /// Whether any outcome has come yet.
    has_run: bool,
    /// Failures since the last success, while it is up.
    failures: u32,
    /// Which URL is next.
    round: usize,
    /// The server is down because of this one, which has not answered since.
    failed: bool,
    /// Since when it is up or down.
    since: Time,
    /// Why the last check failed, if it did.
    failure: Option<Failure>,
    /// What the last success said.
    pass: Pass,
}

impl Checker {
    /// Nothing has been asked yet.
    pub(super) fn new(now: Time, timing: &Timing) -> Checker {
        Checker {
            up: !timing.alpha,
            has_run: false,
            failures: 0,
            round: 0,
            failed: false,
            since: now,
            failure: None,
            pass: Pass::Well,
        }
    }

    /// A check has come to its end. When the next one begins.
    pub(super) fn conclude(&mut self, now: Time, check: &Check, outcome: Outcome) -> Duration {
        self.has_run = true;
        match outcome {
            Ok(pass) => self.succeed(now, check, pass),
            Err(failure) => self.fail(now, &check.timing, failure),
        }
    }

    fn succeed(&mut self, now: Time, check: &Check, pass: Pass) -> Duration {
        let rounds = check.kind.rounds();
        self.pass = pass;
        self.failures = 0;
        self.failure = None;
        self.round += 1;
        if std::mem::take(&mut self.failed) && rounds > 1 {
            self.round = 0;
        }
        if self.round >= rounds {
            self.round = 0;
            if !self.up {
                self.up = true;
                self.since = now;
            }
        }
        check.timing.interval
    }

    fn fail(&mut self, now: Time, timing: &Timing, failure: Failure) -> Duration {
        self.failure = Some(failure);
        if self.up && self.failures < timing.retry {
            self.failures += 1;
            return timing.delay_before_retry;
        }
        if self.up {
            self.up = false;
            self.since = now;
        }
        self.failed = true;
        self.failures = 0;
        timing.interval
    }

    /// Whether the server is up as far as this check goes.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Since when.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Whether any outcome has come yet.
    pub(super) fn has_run(&self) -> bool {
        self.has_run
    }

    /// Which URL is next, counted from 0.
    pub(super) fn round(&self) -> usize {
        self.round
    }

    /// What the last success said.
    pub(super) fn pass(&self) -> Pass {
        self.pass
    }

    /// Why the last check failed, if it did.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }
}
