//! The units, as systemd's own tools see them, and the watchdog that they ask for.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::ours;
use laboratory::wait::SOON;

use crate::machine::{Helpers, Machine, init_file};

const UNITS: [&str; 2] = ["lvs-director.service", "lvs-rsagent.service"];

fn unit(name: &str) -> String {
    init_file(&format!("systemd/{name}")).display().to_string()
}

#[test]
fn systemd_understands_the_units() {
    let machine = Machine::new(Helpers::There);
    for name in UNITS {
        // The manual pages have a test of their own.
        let words = ["systemd-analyze", "verify", "--man=no", &unit(name)];
        assert_eq!(machine.succeed(&words), "", "{name}");
    }
}

#[test]
fn the_units_are_fenced_in() {
    for name in UNITS {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--threshold=25"]);
        let output = command.arg(unit(name)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "worse than 2.5: {said}");
        assert!(said.contains("Overall exposure level"), "{said}");
    }
}

/// What a program tells systemd, line by line; the watchdog waits for 400 ms.
fn words_of(program: &str, arguments: &[&str], check: impl FnOnce(&dyn Fn() -> String)) {
    let host = Host::new(program);
    let (path, control) = (scratch("notify"), scratch("sock"));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut command = Command::new(ours(program));
    command.args(arguments);
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "400000");
    command.env("LVS_CONTROL", control);
    let process = host.spawn(command);
    check(&|| {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer);
        let length = length.unwrap_or_else(|error| panic!("{error}\n{}", process.printed()));
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    });
    drop(process);
    let _ = std::fs::remove_file(path);
}

#[test]
fn the_loops_of_both_programs_feed_the_watchdog() {
    let file = scratch("toml");
    std::fs::write(&file, "mode = \"nat\"\ninterval = \"60s\"\n").unwrap();
    let path = file.display().to_string();
    let run = ["run", "--config", &path];
    let programs: [(&str, &[&str]); 2] = [("director", &[]), ("rsagent", &run)];
    for (program, arguments) in programs {
        words_of(program, arguments, |next| {
            assert_eq!(next(), "READY=1", "{program}");
            // Nothing else happens in the loop for so long.
            for _ in 0..5 {
                assert_eq!(next(), "WATCHDOG=1", "{program}");
            }
        });
    }
    let _ = std::fs::remove_file(file);
}
