//! The SysV scripts, under dash and bash, with and without what other scripts lean on.

use laboratory::wait::{SOON, wait_for};

use crate::machine::{Helpers, Machine};

/// A script of the machine under a shell.
struct Script<'a> {
    machine: &'a Machine,
    shell: &'a str,
    name: &'a str,
}

impl Script<'_> {
    fn run(&self, action: &str) -> (i32, String) {
        let script = format!("/etc/init.d/{}", self.name);
        self.machine.run(&[self.shell, &script, action])
    }

    #[track_caller]
    fn ends_with(&self, code: i32, action: &str) -> String {
        let (ended, printed) = self.run(action);
        let logs = self.machine.logs();
        assert_eq!(ended, code, "{} {action}:\n{printed}\n{logs}", self.name);
        printed
    }
}

fn each_shell(test: impl Fn(&Machine, &str)) {
    for (shell, helpers) in [("dash", Helpers::There), ("bash", Helpers::Absent)] {
        test(&Machine::new(helpers), shell);
    }
}

#[test]
fn the_director_by_script() {
    each_shell(|machine, shell| {
        let name = "lvs-director";
        let script = Script {
            machine,
            shell,
            name,
        };
        let id = || machine.process("director.pid");
        script.ends_with(3, "status");
        script.ends_with(0, "stop");
        script.ends_with(7, "reload");
        script.ends_with(2, "begin");

        script.ends_with(0, "start");
        script.ends_with(0, "status");
        let first = id().expect("it runs");
        script.ends_with(0, "start");
        assert_eq!(id(), Some(first), "it ran already");

        machine.succeed(&["lvsadm", "-A", "-t", "192.0.2.100:80", "-s", "rr"]);
        script.ends_with(0, "save");
        script.ends_with(0, "restart");
        assert_ne!(id(), Some(first));
        let rule = "-A -t 192.0.2.100:80 -s rr\n";
        assert_eq!(machine.succeed(&["lvsadm", "-Sn"]), rule, "it was saved");
        assert_eq!(machine.succeed(&["cat", "/etc/lvs/rules"]), rule);

        let running = id().expect("it runs");
        machine.write("/etc/lvs/director.toml", "[connections]\nmax = 0\n");
        let fault = "/etc/lvs/director.toml:2:7: `max' is 0";
        for action in ["configtest", "reload", "force-reload", "restart"] {
            let printed = script.ends_with(1, action);
            assert!(printed.contains(fault), "{printed}");
        }
        assert_eq!(id(), Some(running), "faults end nothing");
        machine.write("/etc/lvs/director.toml", "[timeouts]\ntcp = 1234\n");
        script.ends_with(0, "configtest");
        script.ends_with(0, "reload");
        let timeouts = || machine.succeed(&["lvsadm", "-L", "--timeout"]);
        assert!(wait_for(SOON, || timeouts().contains(": 1234 ")));

        script.ends_with(0, "restart");
        assert_eq!(machine.succeed(&["lvsadm", "-Sn"]), "", "a file is all");
        let killed = id().expect("it runs").to_string();
        machine.succeed(&["sh", "-c", &format!("kill -9 {killed}")]);
        assert!(wait_for(SOON, || script.run("status").0 == 1));
        script.ends_with(0, "start");
        script.ends_with(0, "status");
        script.ends_with(0, "stop");
        script.ends_with(3, "status");
        assert_eq!(id(), None);

        machine.write("/etc/default/lvs-director", "OPTIONS=--colour\n");
        let printed = script.ends_with(1, "start");
        assert!(printed.contains("--colour"), "{printed}");
        machine.write(
            "/etc/default/lvs-director",
            "OPTIONS='--control /proc/no'\n",
        );
        let printed = script.ends_with(1, "start");
        assert!(printed.contains("lvs-director.log says why"), "{printed}");
        assert!(machine.logs().contains("/proc/no"), "{}", machine.logs());
    });
}

#[test]
fn rules_of_ipvsadms_own_scripts_are_taken_over() {
    let machine = Machine::new(Helpers::There);
    let (shell, name) = ("sh", "lvs-director");
    let script = Script {
        machine: &machine,
        shell,
        name,
    };
    let rule = |port: u16| format!("-A -t 192.0.2.100:{port} -s wlc\n");
    // The one of Debian, then before it the one of Red Hat, then before both our own.
    for (port, file) in [
        (81, "/etc/ipvsadm.rules"),
        (82, "/etc/sysconfig/ipvsadm"),
        (83, "/etc/lvs/rules"),
    ] {
        machine.write(file, &format!("# ipvsadm's rules\n\n{}", rule(port)));
        script.ends_with(0, "start");
        assert_eq!(machine.succeed(&["lvsadm", "-Sn"]), rule(port));
        machine.succeed(&[
            "lvsadm",
            "-E",
            "-t",
            &format!("192.0.2.100:{port}"),
            "-s",
            "rr",
        ]);
        script.ends_with(0, "save");
        let saved = rule(port).replace("wlc", "rr");
        assert_eq!(machine.succeed(&["cat", file]), saved);
        script.ends_with(0, "stop");
    }
    // What cannot be saved leaves what was.
    let printed = script.ends_with(1, "save");
    assert!(printed.contains("/etc/lvs/rules is as it was"), "{printed}");
    assert_eq!(
        machine.succeed(&["cat", "/etc/lvs/rules"]),
        rule(83).replace("wlc", "rr")
    );
    // What cannot be read stops nobody.
    machine.write("/etc/lvs/rules", "-A -t nonsense\n");
    let printed = script.ends_with(1, "start");
    assert!(printed.contains("rules of /etc/lvs/rules"), "{printed}");
    script.ends_with(0, "status");
}

#[test]
fn rsagent_by_script() {
    each_shell(|machine, shell| {
        let name = "lvs-rsagent";
        let script = Script {
            machine,
            shell,
            name,
        };
        let inode = machine.succeed(&["stat", "-Lc", "%i", "/proc/self/ns/net"]);
        let lock = format!("rsagent-{}.lock", inode.trim());
        let on_lo = || machine.succeed(&["ip", "address", "show", "dev", "lo"]);
        script.ends_with(3, "status");
        script.ends_with(0, "stop");
        script.ends_with(7, "reload");
        script.ends_with(2, "begin");
        script.ends_with(6, "start");

        machine.write("/etc/lvs/rsagent.toml", "vips = [\"192.0.2.100\"]\n");
        script.ends_with(0, "start");
        assert!(on_lo().contains("192.0.2.100/32"), "{}", on_lo());
        let printed = script.ends_with(0, "status");
        assert!(printed.contains("192.0.2.100"), "{printed}");
        let first = machine.process(&lock).expect("it runs");
        script.ends_with(0, "start");
        assert_eq!(machine.process(&lock), Some(first), "it ran already");

        machine.write("/etc/lvs/rsagent.toml", "vip = [\"192.0.2.101\"]\n");
        for action in ["configtest", "reload", "force-reload", "restart"] {
            let printed = script.ends_with(1, action);
            assert!(printed.contains("rsagent.toml:1:1: "), "{printed}");
        }
        machine.write("/etc/lvs/rsagent.toml", "vips = [\"192.0.2.101\"]\n");
        script.ends_with(0, "reload");
        assert!(wait_for(SOON, || on_lo().contains("192.0.2.101/32")));
        assert_eq!(machine.process(&lock), Some(first), "it goes on");
        script.ends_with(0, "restart");
        assert_ne!(machine.process(&lock), Some(first));

        let killed = machine.process(&lock).expect("it runs");
        machine.succeed(&["sh", "-c", &format!("kill -9 {killed}")]);
        // Whoever looks in between takes nothing away.
        let ended = wait_for(SOON, || {
            let (_, printed) = machine.run(&["rsagent", "status"]);
            printed.contains("not at work")
        });
        assert!(ended);
        assert!(wait_for(SOON, || script.run("status").0 == 1));
        script.ends_with(0, "stop");
        assert!(!on_lo().contains("192.0.2"), "{}", on_lo());
        script.ends_with(0, "start");
        script.ends_with(0, "stop");
        script.ends_with(3, "status");
        assert!(!on_lo().contains("192.0.2"), "{}", on_lo());

        // Without a file the options will do.
        machine.succeed(&["rm", "/etc/lvs/rsagent.toml"]);
        machine.write("/etc/default/lvs-rsagent", "OPTIONS='--vip 192.0.2.102'\n");
        script.ends_with(0, "start");
        assert!(on_lo().contains("192.0.2.102/32"), "{}", on_lo());
        script.ends_with(0, "stop");
    });
}
