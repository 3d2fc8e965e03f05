//! Programs of the administrator's: started, watched and ended by a thread of their own, so that none of it
//! ever holds up a packet. They are started by `posix_spawn` (std's `Command`), for a fork of a process with
//! large tables would stop all its threads.
//!
//! Each is a process group of its own. One whose time is up gets SIGTERM and a second later SIGKILL, with all
//! that it has started; at the director's end all get SIGKILL. Of what they print the beginning is kept.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::{SourceFd, pipe};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tracing::warn;

use crate::health::checks::script::Ending;
use crate::sys::pidfd;

/// A program with what it is told.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// Its path, and its arguments; no shell reads them.
    pub(super) words: Vec<String>,
    /// What its environment has besides the director's own.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// Names one run of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScriptId(usize);

/// A run that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: ScriptId,
    pub(super) ending: Ending,
    /// The beginning of what it printed.
    pub(super) output: Vec<u8>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Scripts {
    registry: Registry,
    next: usize,
    /// Once anything has been run.
    helper: Option<Helper>,
}

#[derive(Debug)]
struct Helper {
    /// None at the end.
    jobs: Option<Sender<Job>>,
    waker: Waker,
    ended: Receiver<Ended>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    id: ScriptId,
    command: Command,
    timeout: Duration,
}

impl Scripts {
    /// Nothing runs yet. When something ends, the loop wakes up with [`SCRIPTS`].
    pub(super) fn new(registry: Registry) -> Scripts {
        Scripts {
            registry,
            next: 0,
            helper: None,
        }
    }

    /// Runs a program; how it ends is said by [`ended`](Self::ended). One that runs for longer is ended.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn run(&mut self, command: Command, timeout: Duration) -> io::Result<ScriptId> {
        if self.helper.is_none() {
            self.helper = Some(Helper::start(&self.registry)?);
        }
        let id = ScriptId(self.next);
        self.next += 1;
        let job = Job {
            id,
            command,
            timeout,
        };
        let helper = self.helper.as_ref().expect("it is there now");
        let jobs = helper.jobs.as_ref().expect("only the end takes it away");
        jobs.send(job)
            .map_err(|_| io::Error::other("its thread is gone"))?;
        helper.waker.wake()?;
        Ok(id)
    }

    /// A run that is over, each once.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        self.helper.as_ref()?.ended.try_recv().ok()
    }
}

impl Helper {
    fn start(registry: &Registry) -> io::Result<Helper> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), JOBS)?;
        let done = Waker::new(registry, SCRIPTS)?;
        let (jobs, to_do) = channel();
        let (sender, ended) = channel();
        let mut work = Work {
            poll,
            running: BTreeMap::new(),
            ended: sender,
            done,
        };
        let thread = Builder::new()
            .name("scripts".to_owned())
            .spawn(move || work.go_on(&to_do))?;
        Ok(Helper {
            jobs: Some(jobs),
            waker,
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.jobs = None;
        let woken = self.waker.wake();
        if let (Some(thread), Ok(())) = (self.thread.take(), woken) {
            // If it has panicked there is nothing to do about it any more.
            let _ = thread.join();
        }
    }
}

/// What the thread does.
#[derive(Debug)]
struct Work {
    poll: Poll,
    running: BTreeMap<ScriptId, Running>,
    ended: Sender<Ended>,
    done: Waker,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Readable at its end.
    _end: OwnedFd,
    pipe: pipe::Receiver,
    output: Vec<u8>,
    timeout: Duration,
    deadline: Instant,
    /// Whether its time has been up once already.
    late: bool,
}

impl Work {
    fn go_on(&mut self, jobs: &Receiver<Job>) {
        let mut events = Events::with_capacity(64);
        loop {
            let next = self.running.values().map(|running| running.deadline).min();
            let wait = next.map(|next| {
                next.saturating_duration_since(Instant::now()) + Duration::from_millis(1)
            });
            if let Err(error) = self.poll.poll(&mut events, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                warn!("scripts cannot be watched any more: {error}");
                return;
            }
            for event in &events {
                match event.token() {
                    JOBS => {}
                    Token(number) if number % 2 == 0 => self.has_ended(ScriptId(number / 2)),
                    Token(number) => self.says(ScriptId(number / 2)),
                }
            }
            self.hurry(Instant::now());
            loop {
                match jobs.try_recv() {
                    Ok(job) => self.start(&job),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn start(&mut self, job: &Job) {
        match spawn(job, self.poll.registry()) {
            Ok(running) => {
                self.running.insert(job.id, running);
            }
            Err(error) => self.tell(Ended {
                id: job.id,
                ending: Ending::NotStarted(error.to_string()),
                output: Vec::new(),
            }),
        }
    }

    /// The rest of what it says is read too, for it waits as long as nobody does.
    fn says(&mut self, id: ScriptId) {
        if let Some(running) = self.running.get_mut(&id) {
            running.hear();
        }
    }

    fn has_ended(&mut self, id: ScriptId) {
        let Some(mut running) = self.running.remove(&id) else {
            return;
        };
        if running.late {
            // Its group is there as long as it has not been waited for.
            running.signal(Signal::SIGKILL);
        }
        running.hear();
        let status = running.child.wait();
        if running.late {
            return;
        }
        let ending = match status.map(|status| (status.code(), status.signal())) {
            Ok((Some(code), _)) => Ending::Exit(code as u8),
            Ok((None, signal)) => Ending::Signal(signal.unwrap_or_default()),
            Err(error) => Ending::NotStarted(error.to_string()),
        };
        let output = std::mem::take(&mut running.output);
        self.tell(Ended { id, ending, output });
    }

    /// Ends those whose time is up.
    fn hurry(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (id, running) in &mut self.running {
            if running.deadline > now {
                continue;
            }
            running.deadline = now + GRACE;
            if std::mem::replace(&mut running.late, true) {
                running.signal(Signal::SIGKILL);
            } else {
                running.signal(Signal::SIGTERM);
                let ending = Ending::Late(running.timeout);
                let output = std::mem::take(&mut running.output);
                late.push(Ended {
                    id: *id,
                    ending,
                    output,
                });
            }
        }
        for ended in late {
            self.tell(ended);
        }
    }

    fn tell(&self, ended: Ended) {
        // At the end of the director nobody listens any more.
        if self.ended.send(ended).is_ok() {
            let _ = self.done.wake();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            running.signal(Signal::SIGKILL);
            let _ = running.child.wait();
        }
    }
}

impl Running {
    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.pipe.read(&mut buffer) {
            let room = MOST_OUTPUT - self.output.len();
            self.output.extend_from_slice(&buffer[..length.min(room)]);
        }
    }

    /// To all that it has started, too.
    fn signal(&self, signal: Signal) {
        // All of them may have ended by themselves.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), signal);
    }
}

fn spawn(job: &Job, registry: &Registry) -> io::Result<Running> {
    let Some((program, arguments)) = job.command.words.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let (reader, writer) = io::pipe()?;
    let mut pipe = pipe::Receiver::from(OwnedFd::from(reader));
    pipe.set_nonblocking(true)?;
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .envs(job.command.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let mut child = command.spawn()?;
    let watched = watch(job.id, &child, &mut pipe, registry);
    let end = watched.inspect_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
    })?;
    Ok(Running {
        child,
        _end: end,
        pipe,
        output: Vec::new(),
        timeout: job.timeout,
        deadline: Instant::now() + job.timeout,
        late: false,
    })
}

fn watch(
    ScriptId(number): ScriptId,
    child: &Child,
    pipe: &mut pipe::Receiver,
    registry: &Registry,
) -> io::Result<OwnedFd> {
    let end = pidfd::open(child.id())?;
    let (ends, says) = (Token(number * 2), Token(number * 2 + 1));
    registry.register(&mut SourceFd(&end.as_raw_fd()), ends, Interest::READABLE)?;
    registry.register(pipe, says, Interest::READABLE)?;
    Ok(end)
}

/// The token that the loop wakes up with.
pub(super) const SCRIPTS: Token = Token(5);
/// The thread's own: no run of a program has so high a number.
const JOBS: Token = Token(usize::MAX);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(1);
/// What is kept of what a program prints, bytes.
const MOST_OUTPUT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a line of the shell to its end.
    fn run(line: &str, timeout: Duration) -> Ended {
        let mut poll = Poll::new().unwrap();
        let mut scripts = Scripts::new(poll.registry().try_clone().unwrap());
        let command = Command {
            words: ["/bin/sh", "-c", line].map(str::to_owned).into(),
            environment: vec![("LVS_TEST", "from the director".to_owned())],
        };
        let id = scripts.run(command, timeout).unwrap();
        let mut events = Events::with_capacity(8);
        loop {
            if let Some(ended) = scripts.ended() {
                assert_eq!(ended.id, id);
                return ended;
            }
            poll.poll(&mut events, Some(Duration::from_secs(20)))
                .unwrap();
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_script_says_and_how_it_ends_is_told() {
        let ended = run("echo $LVS_TEST; exit 3", LONG);
        assert_eq!(ended.ending, Ending::Exit(3));
        assert_eq!(ended.output, b"from the director\n");
        let ended = run("echo out; echo err >&2", LONG);
        assert_eq!(ended.ending, Ending::Exit(0));
        assert_eq!(ended.output, b"out\nerr\n");
        assert_eq!(run("kill -9 $$", LONG).ending, Ending::Signal(9));
    }

    #[test]
    fn a_script_that_prints_and_prints_does_not_hang() {
        let ended = run("head -c 1000000 /dev/zero; exit 4", LONG);
        assert_eq!(ended.ending, Ending::Exit(4));
        assert_eq!(ended.output.len(), MOST_OUTPUT);
    }

    #[test]
    fn a_script_that_cannot_be_started_says_why() {
        let poll = Poll::new().unwrap();
        let mut scripts = Scripts::new(poll.registry().try_clone().unwrap());
        let command = Command {
            words: vec!["/absent".to_owned()],
            environment: Vec::new(),
        };
        scripts.run(command, LONG).unwrap();
        let ended = loop {
            if let Some(ended) = scripts.ended() {
                break ended;
            }
            std::thread::yield_now();
        };
        assert!(
            matches!(&ended.ending, Ending::NotStarted(why) if why.contains("No such file")),
            "{ended:?}"
        );
    }

    /// Also if it does not listen to SIGTERM.
    #[test]
    fn a_script_that_hangs_is_ended_with_its_children() {
        let trace = std::env::temp_dir().join(format!("lvs-script-{}", std::process::id()));
        let line = format!(
            "trap '' TERM; sleep 300 & echo $! > {}; wait; sleep 300",
            trace.display()
        );
        let ended = run(&line, Duration::from_millis(300));
        assert_eq!(ended.ending, Ending::Late(Duration::from_millis(300)));
        let child = std::fs::read_to_string(&trace).unwrap();
        std::fs::remove_file(&trace).unwrap();
        // The runner is gone, and with it all that it ran; the child's own parent has to notice yet.
        let file = format!("/proc/{}/stat", child.trim());
        let begun = Instant::now();
        let is_dead = || {
            std::fs::read_to_string(&file).map_or(true, |stat| {
                let (_, rest) = stat.rsplit_once(") ").unwrap();
                rest.starts_with('Z')
            })
        };
        while !is_dead() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{file}");
            std::thread::yield_now();
        }
    }
}
