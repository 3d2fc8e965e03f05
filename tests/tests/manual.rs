//! The manual pages and completions name what the programs know, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use laboratory::programs::ours;

/// A file of the project.
fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(ours(program)).args(arguments).output();
    let output = output.expect("a program of ours");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The long options in a text, as they are written after `before`.
fn options(text: &str, before: &str) -> BTreeSet<String> {
    let found = text.split(before).skip(1).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    found.filter(|option| !option.is_empty()).collect()
}

/// The words that entries of a page's lists begin with: `.It Cm this , that`.
fn entries(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .flat_map(|words| words.split(" , ").map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_option_has_its_place_in_the_page_of_its_program() {
    let commands: [(&str, &[&[&str]]); 3] = [
        ("director", &[&["--help"], &["check", "--help"]]),
        (
            "rsagent",
            &[&["--help"], &["run", "--help"], &["check", "--help"]],
        ),
        ("lvsadm", &[&["--help"]]),
    ];
    for (program, helps) in commands {
        let page = file(&format!("init/man/{program}.8")).replace("\\-", "-");
        let known = helps
            .iter()
            .map(|help| options(&printed(program, help), "--"));
        let known: BTreeSet<String> = known.flatten().collect();
        assert!(known.contains("help"), "{program}: {known:?}");
        let named = options(&page, "Fl -");
        // lvsadm's --version is ipvsadm's secret.
        let extra: Vec<_> = named
            .difference(&known)
            .filter(|name| *name != "version")
            .collect();
        assert_eq!(extra, Vec::<&String>::new(), "{program} has no such option");
        let missing: Vec<_> = known.difference(&named).collect();
        assert_eq!(missing, Vec::<&String>::new(), "not in {program}.8");
    }
}

#[test]
fn every_command_has_its_place_in_the_page_of_its_program() {
    for program in ["director", "rsagent"] {
        let help = printed(program, &["--help"]);
        let (_, commands) = help.split_once("Commands:\n").expect("it has commands");
        let commands = commands.lines().take_while(|line| !line.is_empty());
        let commands = commands.filter_map(|line| line.split_whitespace().next());
        let known: BTreeSet<String> = commands
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect();
        assert_eq!(entries(&file(&format!("init/man/{program}.8"))), known);
    }
}

/// Every key in the tables of keys of a source: what stands in quotes after `known: &[` and the like.
fn keys(source: &str, begins: &[&str]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for begin in begins {
        for rest in source.split(begin).skip(1) {
            let (list, _) = rest.split_once(']').expect("a list ends");
            keys.extend(list.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    keys
}

#[test]
fn every_key_of_the_configurations_has_its_place_in_their_pages() {
    // Of `Words`, which are values, nothing is a key.
    let director = file("director/src/config/words.rs");
    let tables: String = director
        .split("Keys = Keys {")
        .skip(1)
        .filter_map(|rest| rest.split_once("};"))
        .map(|(table, _)| table)
        .collect();
    let mut known = keys(&tables, &["known: &["]);
    known.extend(keys(&director, &["const CHECK_KEYS: &[&str] = &["]));
    known.extend(director::core::sysctl::NAMES.map(str::to_owned));
    assert_eq!(entries(&file("init/man/director.toml.5")), known);

    let sources = ["mod.rs", "check.rs"].map(|name| file(&format!("rsagent/src/config/{name}")));
    let tables: String = sources
        .iter()
        .flat_map(|source| source.split("Keys = Keys {").skip(1))
        .filter_map(|rest| rest.split_once("};"))
        .map(|(table, _)| table)
        .collect();
    let known = keys(&tables, &["known: &["]);
    assert_eq!(entries(&file("init/man/rsagent.toml.5")), known);
}

#[test]
fn the_pages_are_well_formed() {
    for page in [
        "director.8",
        "lvsadm.8",
        "rsagent.8",
        "director.toml.5",
        "rsagent.toml.5",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../init/man");
        let mut command = Command::new("groff");
        command.args(["-mdoc", "-ww", "-z", "-Tutf8", page]);
        let output = command.current_dir(path).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{page}");
    }
}

#[test]
fn bash_completes_the_commands() {
    // What the shell would offer for a word that is not finished.
    let offers = |completion: &str, function: &str, words: &str| {
        let script = format!(
            "{completion}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             {function} ${{COMP_WORDS[0]}} ${{COMP_WORDS[COMP_CWORD]}} ${{COMP_WORDS[COMP_CWORD-1]}}\n\
             echo ${{COMPREPLY[@]}}"
        );
        let path = ours("lvsadm").parent().unwrap().display().to_string();
        let path = format!("{path}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.env("PATH", path).args(["-c", &script]);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "{script}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for (program, words, offered) in [
        ("director", "director ch", "check"),
        ("director", "director --pid", "--pid-file"),
        ("rsagent", "rsagent main", "maintenance"),
        ("rsagent", "rsagent run --tun", "--tun-port"),
    ] {
        let completion = printed(program, &["completion", "bash"]);
        let function = format!("_{program}");
        assert_eq!(offers(&completion, &function, words), offered, "{words}");
    }
    let lvsadm = file("init/completions/lvsadm.bash");
    for (words, offered) in [
        ("lvsadm dr", "drain"),
        (
            "lvsadm -A -t 192.0.2.1 --sched",
            "--sched-flags --scheduler",
        ),
        ("lvsadm -A -s wl", "wlc"),
        ("lvsadm --clamp", "--clamp-mss-to-pmtu"),
        ("lvsadm proc ip_vs_s", "ip_vs_stats"),
    ] {
        assert_eq!(offers(&lvsadm, "_lvsadm", words), offered, "{words}");
    }
}
