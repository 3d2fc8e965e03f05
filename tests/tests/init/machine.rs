//! A machine that has the programs and their init files installed: the tests' own, under a network and a mount
//! namespace.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::process::{Process, scratch};
use laboratory::programs::ours;
use laboratory::wait::{SOON, wait_for};

/// Whether the machine has what other init scripts lean on: `start-stop-daemon` and the LSB's functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helpers {
    There,
    Absent,
}

/// See the [module](self).
pub struct Machine {
    _neighbour: Host,
    pub host: Host,
    folder: PathBuf,
    /// It holds the mount namespace.
    keeper: Process,
}

impl Machine {
    pub fn new(helpers: Helpers) -> Machine {
        let (neighbour, host) = (Host::new("neighbour"), Host::new("machine"));
        cable((&neighbour, "eth0"), (&host, "eth0"));
        host.address("eth0", "10.1.0.11/24");
        let folder = scratch("machine");
        for part in ["usr/sbin", "usr/libexec/lvs-director", "etc/init.d"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        for part in ["etc/lvs", "run", "log", "empty", "over", "under"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        for program in ["director", "lvsadm", "rsagent"] {
            fs::copy(ours(program), folder.join("usr/sbin").join(program)).unwrap();
        }
        let install = |from: &str, to: &str| {
            let to = folder.join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(init_file(from), &to).unwrap();
            fs::set_permissions(to, Permissions::from_mode(0o755)).unwrap();
        };
        install("libexec/rules", "usr/libexec/lvs-director/rules");
        for name in ["lvs-director", "lvs-rsagent"] {
            install(&format!("sysv/{name}"), &format!("etc/init.d/{name}"));
            install(&format!("default/{name}"), &format!("etc/default/{name}"));
        }
        let mut keep = Command::new("unshare");
        keep.args(["--mount", "sh", "-ec", MOUNT, "mount"]);
        keep.arg(&folder).arg(match helpers {
            Helpers::There => "",
            Helpers::Absent => "absent",
        });
        let keeper = host.spawn(keep);
        let machine = Machine {
            _neighbour: neighbour,
            host,
            folder,
            keeper,
        };
        let mounted = || machine.folder.join("log/mounted").exists();
        assert!(wait_for(SOON, mounted), "{}", machine.keeper.printed());
        machine
    }

    /// Runs something there: its exit code and everything that it printed. It also waits until nobody holds
    /// its output any more.
    pub fn run(&self, words: &[&str]) -> (i32, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.host.output("nsenter", &self.enter(words));
        let printed = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        (status.code().expect("it ends by itself"), printed)
    }

    /// The same of what must end well.
    pub fn succeed(&self, words: &[&str]) -> String {
        let (code, printed) = self.run(words);
        assert_eq!(code, 0, "{words:?}:\n{printed}\n{}", self.logs());
        printed
    }

    /// Writes a file below `/etc`.
    pub fn write(&self, path: &str, text: &str) {
        let line = r#"mkdir -p "${1%/*}" && printf %s "$2" >"$1""#;
        self.succeed(&["sh", "-c", line, "write", path, text]);
    }

    /// What the programs have said.
    pub fn logs(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.join("log").join(name));
        ["lvs-director.log", "lvs-rsagent.log"]
            .map(|name| read(name).unwrap_or_default())
            .concat()
    }

    /// The process number in a file below `/run/lvs`.
    pub fn process(&self, file: &str) -> Option<u32> {
        let text = fs::read_to_string(self.folder.join("run/lvs").join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn enter<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        let target: &'static str = format!("--target={}", self.keeper.id()).leak();
        [&[target, "--mount", "--"], words].concat()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What the scripts have started is nobody's child.
        let line = "for file in /run/lvs/*.pid /run/lvs/*.lock; do kill -9 $(cat $file) || :; done";
        let _ = self
            .host
            .output("nsenter", &self.enter(&["sh", "-c", line]));
        self.keeper.signal("KILL");
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A file below `init`.
pub fn init_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../init")
        .join(name)
}

/// The machine's own folders with ours over them. `/run` has neither a system log nor systemd.
const MOUNT: &str = r#"
folder=$1
if [ -n "$2" ]; then
    mknod "$folder/usr/sbin/start-stop-daemon" c 0 0
    [ ! -d /lib/lsb ] || mount --bind "$folder/empty" /lib/lsb
fi
mkdir -p /usr/libexec
mount -t overlay -o "lowerdir=$folder/usr/libexec:/usr/libexec" overlay /usr/libexec
mount -t overlay -o "lowerdir=$folder/usr/sbin:/usr/sbin" overlay /usr/sbin
mount -t overlay -o "lowerdir=$folder/etc:/etc,upperdir=$folder/over,workdir=$folder/under" overlay /etc
rm -rf /etc/ipvsadm.rules /etc/sysconfig
mount --bind "$folder/log" /var/log
mount --bind "$folder/run" /run
touch /var/log/mounted
exec sleep 3600
"#;
