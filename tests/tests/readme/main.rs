//! What README.md tells operators, done as it stands there.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod debian;
mod lab;
mod page;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use laboratory::process::scratch;
use laboratory::programs::ours;
use laboratory::wait::{SOON, wait_for};

use crate::lab::{Lab, project};
use crate::page::{Chapter, Step, readme, spans};

#[test]
fn a_cluster_from_nothing() {
    let mut page = Chapter::read("A cluster from nothing");
    let mut lab = Lab::new();

    lab.follow(page.take("Install."));
    assert_eq!(lab.director().units_at_boot(), ["lvs-director.service"]);
    assert_eq!(lab.machine("web1").units_at_boot(), ["lvs-rsagent.service"]);
    let checked = lab.follow(page.take("Real servers"));
    assert!(checked.contains("ok     check web: passed"), "{checked}");
    let seen = lab.follow(page.take("Director."));
    for line in [
        "\nweb1\n",
        "\nweb2\n",
        "  -> 192.168.100.8:80             Route   2 ",
        "http 192.168.100.8:80",
        "lvs_backend_up{",
    ] {
        assert!(seen.contains(line), "{line:?}:\n{seen}");
    }
    graphs(&lab, page.take("Graphs and alerts."));

    lab.machine("web1").succeed("service nginx stop");
    lab.answered_by(&["web2"]);
    lab.machine("web2").succeed("service nginx stop");
    lab.answered_by(&["sorry"]);
    for name in ["web1", "web2"] {
        lab.machine(name).succeed("service nginx start");
    }
    lab.answered_by(&["web1", "web2"]);

    let running = || lab.director().succeed("cat /run/lvs/director.pid");
    let before = running();
    lab.follow(page.take("Change."));
    let listed = || lab.director().succeed("lvsadm -Ln");
    let changed = || listed().contains("  -> 192.168.100.8:80             Route   3 ");
    assert!(wait_for(SOON, changed), "{}", listed());
    assert_eq!(running(), before, "it goes on");

    let mut answers = Vec::new();
    for step in page.take("Maintain.") {
        let Step::Command { line, .. } = &step else {
            panic!("{step:?}")
        };
        let (drains, readies) = (line.contains(" drain"), line.contains(" ready"));
        lab.follow(vec![step]);
        if drains || readies {
            let expected: &[&str] = if drains { &["web2"] } else { &["web1", "web2"] };
            lab.answered_by(expected);
            answers.push(expected.len());
        }
    }
    assert_eq!(answers, [1, 2, 1, 2]);
    assert_eq!(page.left(), Vec::<&str>::new(), "nobody has tried these");

    for path in spans(&page.text) {
        if path.starts_with('/') {
            let there = |name| lab.machine(name).sh(&format!("test -e {path}")).0 == 0;
            assert!(there("director") || there("web1"), "{path}");
        }
    }

    lab.reboot();
    lab.answered_by(&["web1", "web2"]);

    at_night(&lab, &page);
    let addresses = lab.director().succeed("ip -4 address show");
    assert!(!addresses.contains("192.168.100.240"), "{addresses}");
}

/// Prometheus takes the file and the rules, and whom it is to ask does answer.
fn graphs(lab: &Lab, steps: Vec<Step>) {
    let folder = scratch("prometheus");
    fs::create_dir_all(&folder).unwrap();
    let mut asked = Vec::new();
    for step in steps {
        let Step::File { path, text, .. } = step else {
            panic!("{step:?}")
        };
        let file = folder.join(path.rsplit('/').next().unwrap());
        fs::write(&file, &text).unwrap();
        let rules = "/usr/share/doc/lvs-director/examples/lvs.rules.yml";
        let rules = lab.director().succeed(&format!("cat {rules}"));
        fs::write(folder.join("lvs.rules.yml"), rules).unwrap();
        let tool = ["check", "config", &file.display().to_string()];
        let said = lab.client.succeed("promtool", &tool);
        assert!(said.contains("rules found"), "{said}");
        let targets = text.split("targets: [ \"").skip(1);
        asked.extend(targets.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    let _ = fs::remove_dir_all(&folder);
    assert!(!asked.is_empty());
    for target in asked {
        let url = format!("http://{target}/metrics");
        let text = lab.client.succeed("curl", &["-sSf", &url]);
        assert!(text.contains("lvs_build_info"), "{text}");
    }
}

/// Every command of the table, in its order.
fn at_night(lab: &Lab, page: &Chapter) {
    let mut asked = 0;
    for row in &page.table {
        let machine = if row.contains("` on it") {
            "web1"
        } else {
            "director"
        };
        for command in spans(row) {
            let program = command.split(' ').next().unwrap();
            if ["service", "lvsadm", "rsagent", "director"].contains(&program) {
                lab.machine(machine).succeed(command);
                asked += 1;
            }
        }
    }
    assert!(asked > 5, "{:?}", page.table);
}

/// What systemd has to do cannot be tried here, but that the units have these names.
#[test]
fn units_that_it_names_exist() {
    let text = readme();
    let mut seen = BTreeSet::new();
    for command in ["systemctl ", "journalctl -"] {
        for rest in text.split(command).skip(1) {
            let name = rest.split_whitespace().nth(1).unwrap();
            let name = name.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
            let unit = project().join(format!("init/systemd/{name}.service"));
            assert!(unit.exists(), "{command}{rest:.40}: no such unit");
            seen.insert(name);
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

/// The examples of the configuration that nobody runs.
#[test]
fn the_director_takes_its_examples() {
    let text = readme();
    let mut examples = 0;
    for block in text.split("\n```toml\n").skip(1) {
        let (block, _) = block.split_once("\n```").unwrap();
        // Those that say whose they are have been tried there.
        if block.starts_with("# /") {
            continue;
        }
        let file = scratch("toml");
        fs::write(&file, block).unwrap();
        let mut check = Command::new(ours("director"));
        let output = check.arg("check").arg("--config").arg(&file).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let _ = fs::remove_file(&file);
        assert!(output.status.success(), "{said}{block}");
        examples += 1;
    }
    assert!(examples > 1);
}
