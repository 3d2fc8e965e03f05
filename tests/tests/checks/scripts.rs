//! Checks by programs of the administrator's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use laboratory::process::scratch;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

use super::lab::{Lab, one_service};

/// An executable file for `sh`.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> File {
        let file = scratch("sh");
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        File(file)
    }

    fn check(&self, words: &str) -> String {
        format!(
            "type = \"script\", command = [\"{}\", \"word\"]{words}",
            self.0.display()
        )
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_script_judges_and_weighs() {
    let net = Routed::new(1);
    let answer = scratch("answer");
    fs::write(&answer, "0").unwrap();
    let told = File::new(&format!(
        "[ \"$1 $LVS_SERVER_ADDRESS $LVS_SERVER_PORT\" = 'word 10.1.0.11 8001' ] || exit 1\n\
         exit $(cat {})",
        answer.display()
    ));
    let sad = File::new("echo 'no disk left' >&2; exit 7");
    let checks = [told.check(", dynamic = true"), sad.check("")];
    let config = one_service([
        (8001, checks[0].as_str()),
        (8002, checks[1].as_str()),
        (8003, "type = \"script\", command = [\"/absent/check\"]"),
    ]);
    let lab = Lab::new(net, &config);
    lab.falls(
        8002,
        "its check by script fails: ended with exit code 7: no disk left",
    );
    lab.falls(8003, "cannot run /absent/check: ");
    let weight = || lab.server(Routed::server(0), 8001)["effective_weight"].as_i64();
    assert_eq!(weight(), Some(1), "{}", lab.all());
    for (code, expected) in [("42", 40), ("2", 0), ("255", 253), ("0", 1)] {
        fs::write(&answer, code).unwrap();
        assert!(
            wait_for(SOON, || weight() == Some(expected)),
            "{code}: {}",
            lab.all()
        );
        assert_eq!(lab.health(Routed::server(0), 8001).0, "up");
    }
    fs::write(&answer, "1").unwrap();
    lab.falls(8001, "ended with exit code 1");
    fs::remove_file(&answer).unwrap();
}

#[test]
fn a_script_that_hangs_is_ended_with_its_children() {
    let net = Routed::new(1);
    let trace = scratch("trace");
    let hangs = File::new(&format!(
        "trap '' TERM\nsleep 1000 &\necho $! >> {}\nwait\nsleep 1000",
        trace.display()
    ));
    let config = one_service([(8001, hangs.check("").as_str())]);
    let mut lab = Lab::new(net, &config);
    lab.falls(8001, "timed out after 500 ms, running");
    let children = || -> Vec<String> {
        let text = fs::read_to_string(&trace).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let first = children().swap_remove(0);
    assert!(wait_for(SOON, || is_gone(&first)), "{first}");
    // The director's own end is theirs too.
    lab.director.process.signal("TERM");
    lab.director.process.ended(SOON);
    assert!(wait_for(SOON, || children()
        .iter()
        .all(|child| is_gone(child))));
    fs::remove_file(&trace).unwrap();
}

/// Whether a process is not there, or waits to be buried by whoever has inherited it.
fn is_gone(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| {
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.starts_with('Z')
    })
}
