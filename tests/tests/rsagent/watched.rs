//! A real server whose reports are read.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use laboratory::process::{Process, scratch};
use laboratory::programs::ours;
use laboratory::wait::{SOON, wait_for};
use shared::agent::{Key, Report, decode};

use crate::lab::{Lab, pair};

/// A real server with a configuration and a key, and its neighbour, who gets the reports.
pub struct Watched {
    pub lab: Lab,
    socket: UdpSocket,
    pub folder: PathBuf,
}

impl Watched {
    pub fn new(config: &str) -> Watched {
        let lab = Lab::new();
        let socket = lab
            .neighbour
            .run(|| UdpSocket::bind("10.1.0.10:9111").unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let folder = scratch("rsagent");
        fs::create_dir(&folder).unwrap();
        let watched = Watched {
            lab,
            socket,
            folder,
        };
        fs::write(watched.key_file(), KEY).unwrap();
        watched.set_mode(0o600);
        watched.configure(config);
        watched
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.join("key")
    }

    pub fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.key_file(), PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn config(&self) -> String {
        self.folder.join("rsagent.toml").display().to_string()
    }

    /// The neighbour is the director in every configuration.
    pub fn configure(&self, text: &str) {
        let key = self.key_file();
        let text = format!("directors = [\"10.1.0.10\"]\nkey_file = {key:?}\n{text}");
        fs::write(self.config(), text).unwrap();
    }

    pub fn run(&self) -> Process {
        let mut command = Command::new(ours("rsagent"));
        command.args(["run", "--config", &self.config()]);
        self.lab.server.spawn(command)
    }

    pub fn datagram(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2000];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    /// The next report that is as it is wanted.
    pub fn report(&self, wanted: impl Fn(&Report) -> bool) -> Report {
        let mut last = None;
        let mut found = None;
        wait_for(SOON, || {
            let Some(datagram) = self.datagram() else {
                return false;
            };
            let report = decode(&datagram, Some(&key(KEY))).unwrap();
            found = wanted(&report).then(|| report.clone());
            last = Some(report);
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("the last report is {last:#?}"))
    }

    pub fn on_lo(&self, expected: &[(String, String, u8)]) {
        let settled = wait_for(SOON, || self.lab.on_lo() == expected);
        assert!(settled, "{:?}", self.lab.on_lo());
    }

    pub fn ip(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.lab.server.succeed("ip", &words);
    }

    /// Nothing of ours is left.
    pub fn is_as_it_was(&self) {
        assert_eq!(self.lab.on_lo(), []);
        assert_eq!(self.lab.arp("all"), pair("0", "0"));
        assert_eq!(self.lab.arp("eth0"), pair("0", "0"));
        assert!(!self.lab.state_file().exists());
        assert!(!self.lab.state_file().with_extension("lock").exists());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub fn key(text: &str) -> Key {
    Key::from_bytes(text.as_bytes()).unwrap()
}

pub fn vips_are_there(report: &Report) -> bool {
    report.vips.iter().all(|vip| vip.present)
}

pub const KEY: &str = "0123456789abcdef0123456789abcdef";

pub const OFTEN: &str = "interval = \"100ms\"\nvips = [\"10.1.0.100\"]\n";

pub const SELDOM: &str = "interval = \"60s\"\n";

pub const SELDOM_ONE: &str = "interval = \"60s\"\nvips = [\"10.1.0.100\"]\n";
