//! A Debian machine that has booted: the clean tree of `tests/clean-debian` under namespaces and SysV init.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use laboratory::host::Host;
use laboratory::process::{Process, scratch};
use laboratory::wait::{SOON, wait_for};

use crate::lab::project;

/// See the [module](self).
pub struct Debian {
    pub host: Host,
    folder: PathBuf,
    /// Its processes; they end with it.
    init: Option<Process>,
    /// It holds the tree.
    keeper: Process,
}

impl Debian {
    /// Boots one on a host, with a folder that is `/mnt` there.
    ///
    /// # Panics
    /// If it does not.
    pub fn boot(host: Host, mnt: &Path) -> Debian {
        let clean = project().join("target/clean-debian");
        let folder = scratch("debian");
        fs::create_dir_all(&folder).unwrap();
        let mut keep = Command::new("unshare");
        keep.args(["--mount", "--uts", "sh", "-ec", TREE, "tree"]);
        keep.args([&*clean, &*folder, mnt]).arg(host.name());
        let keeper = host.spawn(keep);
        let made = || keeper.printed().contains("made");
        assert!(wait_for(SOON, made), "{}", keeper.printed());
        let mut debian = Debian {
            host,
            folder,
            init: None,
            keeper,
        };
        debian.reboot();
        debian
    }

    /// Ends all processes, as when the power fails, and boots again.
    ///
    /// # Panics
    /// If it does not.
    pub fn reboot(&mut self) {
        drop(self.init.take());
        // Its sockets go with the last of its processes, which nobody waits for.
        let silent = || {
            let sockets = self
                .host
                .succeed("cat", &["/proc/net/tcp", "/proc/net/udp"]);
            let mut sockets = sockets.lines();
            !sockets.any(|line| line.contains(LISTENS) || line.contains(BOUND))
        };
        assert!(wait_for(SOON, silent), "somebody is left");
        let tree = format!("/proc/{}/ns/", self.keeper.id());
        let mut boot = Command::new("nsenter");
        boot.arg(format!("--mount={tree}mnt"))
            .arg(format!("--uts={tree}uts"));
        boot.args([
            "unshare",
            "--mount",
            "--pid",
            "--ipc",
            "--fork",
            "--kill-child",
            "sh",
            "-ec",
            BOOT,
            "boot",
        ]);
        boot.arg(self.root());
        let init = self.host.spawn(boot);
        self.init = Some(init);
        let booted = || self.sh("test -e /run/booted").0 == 0;
        assert!(wait_for(SOON, booted), "{}", self.log());
    }

    /// What a shell there makes of a line: its exit code, and everything that it printed.
    pub fn sh(&self, line: &str) -> (i32, String) {
        let init = self.init.as_ref().expect("it has booted").id();
        let namespace = |option: &str, name: &str| format!("--{option}=/proc/{init}/ns/{name}");
        let (mount, uts) = (namespace("mount", "mnt"), namespace("uts", "uts"));
        let pid = namespace("pid", "pid_for_children");
        let root = self.root().display().to_string();
        let line = format!("cd; {line}");
        let words = [
            &mount,
            &uts,
            &pid,
            "chroot",
            &root,
            "env",
            "-i",
            HOME,
            PATH,
            "LC_ALL=C.UTF-8",
            "sh",
            "-ec",
            &line,
        ];
        let Output {
            status,
            stdout,
            stderr,
        } = self.host.output("nsenter", &words);
        let printed = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        (status.code().unwrap_or(-1), printed)
    }

    /// The same of what must end well.
    #[track_caller]
    pub fn succeed(&self, line: &str) -> String {
        let (code, printed) = self.sh(line);
        assert_eq!(
            code,
            0,
            "{}# {line}\n{printed}\n{}",
            self.host.name(),
            self.log()
        );
        printed
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        // What the shell expands here is nothing: the word that ends the text is in quotes.
        self.succeed(&format!(
            "cat >{path} <<'THE END OF IT'\n{text}THE END OF IT\n"
        ));
    }

    /// What systemd would start at boot, of our units.
    pub fn units_at_boot(&self) -> Vec<String> {
        let wanted = "/etc/systemd/system/multi-user.target.wants";
        let names = self.succeed(&format!("cd {wanted} && ls -d lvs-*"));
        names.lines().map(str::to_owned).collect()
    }

    /// What init and the programs have said.
    pub fn log(&self) -> String {
        let said = self.init.as_ref().map(Process::printed).unwrap_or_default();
        said + &self.sh("cat /var/log/lvs-*.log").1
    }

    /// Its tree, for those who are in its mount namespace.
    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        drop(self.init.take());
        self.keeper.signal("KILL");
        let _ = self.keeper.ended(SOON);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a shell of root's has in its environment.
const HOME: &str = "HOME=/root";
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// The clean tree with what is written over it, which nobody keeps.
const TREE: &str = r#"
clean=$1 folder=$2
hostname "$4"
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=$clean,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
cd "$folder/root"
mount -t sysfs sysfs sys
mount --bind "$3" mnt
mount -t tmpfs tmpfs dev
cp -a /dev/null /dev/zero /dev/random /dev/urandom /dev/net dev
ln -s /proc/self/fd pts/ptmx dev
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
cat >etc/inittab <<'INITTAB'
id:2:initdefault:
si::sysinit:/bin/sh -c ': >/run/utmp'
l2:2:wait:/etc/init.d/rc 2
ok:2:once:/bin/sh -c ': >/run/booted'
INITTAB
echo made
exec sleep infinity
"#;

const BOOT: &str = r#"
cd "$1"
mount -t proc proc proc
mount -t tmpfs tmpfs run
exec chroot . /sbin/init
"#;

/// States in /proc/net/tcp, and in /proc/net/udp.
const LISTENS: &str = " 0A ";
const BOUND: &str = " 07 ";
