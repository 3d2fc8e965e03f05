//! The machines of the page, on one link: Debian for those who balance and serve, the laboratory's own for a client.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use laboratory::host::Host;
use laboratory::link::{cable, plug, switch};
use laboratory::process::scratch;
use laboratory::wait::{SOON, wait_for};

use crate::debian::Debian;
use crate::page::Step;

/// See the [module](self).
pub struct Lab {
    machines: Vec<Debian>,
    pub client: Host,
    /// `/mnt` of all machines.
    shared: PathBuf,
    _switch: Host,
}

/// Who is where.
const MACHINES: [(&str, &str); 3] = [
    ("director", "192.168.100.2"),
    ("web1", "192.168.100.8"),
    ("web2", "192.168.100.9"),
];
const VIP: &str = "192.168.100.240";

impl Lab {
    /// Boots everybody, with web servers as the page has them.
    pub fn new() -> Lab {
        let made = Command::new("tests/clean-debian")
            .current_dir(project())
            .output();
        let made = made.unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let lan = Host::new("lan");
        switch(&lan, "br0");
        let connected = |name: &str, address: &str| {
            let host = Host::new(name);
            cable((&lan, name), (&host, "eth0"));
            plug(&lan, name, "br0");
            host.address("eth0", &format!("{address}/24"));
            host
        };
        let shared = scratch("shared");
        fs::create_dir_all(&shared).unwrap();
        let machines = MACHINES.map(|(name, address)| {
            let machine = Debian::boot(connected(name, address), &shared);
            let says = if name == "director" { "sorry" } else { name };
            machine.write("/var/www/html/index.html", &format!("{says}\n"));
            machine
        });
        let client = connected("client", "192.168.100.10");
        let machines = machines.into();
        Lab {
            machines,
            client,
            shared,
            _switch: lan,
        }
    }

    pub fn director(&self) -> &Debian {
        self.machine("director")
    }

    pub fn machine(&self, name: &str) -> &Debian {
        let found = self
            .machines
            .iter()
            .find(|machine| machine.host.name() == name);
        found.unwrap_or_else(|| panic!("README.md: who is {name:?}?"))
    }

    pub fn reboot(&mut self) {
        for machine in &mut self.machines {
            machine.reboot();
        }
    }

    /// Does these steps, and returns what they printed.
    #[track_caller]
    pub fn follow(&self, steps: Vec<Step>) -> String {
        let mut printed = String::new();
        for step in steps {
            match step {
                Step::File { path, text, on } => {
                    for name in on {
                        self.machine(&name).write(&path, &text);
                    }
                }
                Step::Command { line, on } => {
                    for name in on {
                        printed += &self.command(&name, &line);
                    }
                }
            }
        }
        printed
    }

    /// Waits until it is these, and only these, who answer the client.
    #[track_caller]
    pub fn answered_by(&self, expected: &[&str]) {
        let url = format!("http://{VIP}/");
        let answers = || -> BTreeSet<String> {
            let ask = |_| self.client.output("curl", &["-sS", "-m", "5", &url]).stdout;
            let answers = (0..8).map(ask);
            answers
                .map(|answer| String::from_utf8_lossy(&answer).trim().to_owned())
                .collect()
        };
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let so = wait_for(SOON, || answers() == expected);
        let status = self.director().succeed("lvsadm status");
        assert!(
            so,
            "{:?}, not {expected:?}:\n{status}\n{}",
            answers(),
            self.director().log()
        );
    }

    #[track_caller]
    fn command(&self, name: &str, line: &str) -> String {
        match name {
            _ if line.starts_with("scp ") => self.copy(name, line),
            "client" => {
                // Readers are slower than the first reports.
                self.answered_by(&["web1", "web2"]);
                self.client.succeed("sh", &["-ec", line])
            }
            SOURCES => {
                sources(line);
                String::new()
            }
            name => self.machine(name).succeed(line),
        }
    }

    /// `scp FILE root@ADDRESS:FOLDER` between machines that have no ssh.
    #[track_caller]
    fn copy(&self, from: &str, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').filter(|word| *word != "-p").collect();
        let [_, files, to] = words[..] else {
            panic!("README.md: {line}")
        };
        match from {
            SOURCES => sources(&format!("cp -p {files} {}", self.shared.display())),
            from => drop(self.machine(from).succeed(&format!("cp -p {files} /mnt"))),
        }
        let to = to.strip_prefix("root@").and_then(|to| to.split_once(':'));
        let (to, folder) = to.unwrap_or_else(|| panic!("README.md: {line}"));
        let known = MACHINES.iter().find(|(_, address)| *address == to);
        let (name, _) = known.unwrap_or_else(|| panic!("README.md: who has {to}?"));
        let folder = if folder.is_empty() { "." } else { folder };
        self.machine(name).succeed(&format!("mv /mnt/* {folder}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.shared);
    }
}

/// What the page calls the machine that the tests run on.
const SOURCES: &str = "the machine with the sources";

/// A line there, which must end well. The packages have been made before the tests: make only says how.
#[track_caller]
fn sources(line: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-ec", line]).env("MAKEFLAGS", "n");
    let output = shell.current_dir(project()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
}

/// The folder of this project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
