//! The program itself, with a real socket and a table that forwards nothing behind it.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use director::control::session::{Progress, Session};
use director::core::view::ConnectionView;
use reference::Table;
use shared::addr::Protocol;

#[allow(
    dead_code,
    reason = "shared with the transcripts, which need more of it"
)]
mod reference;

/// A path for a socket that is this test's alone.
fn socket(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.sock"));
    let _ = fs::remove_file(&path);
    path
}

fn lvsadm(path: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lvsadm"))
        .args(args)
        .env("LVS_CONTROL", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lvsadm starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    // A program that ends early does not read all of it.
    thread::spawn(move || stdin.write_all(input.as_bytes()));
    child.wait_with_output().expect("lvsadm ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// Serves one connection until its end, and gives the table back.
fn serve(listener: &UnixListener, mut table: Table) -> Table {
    let (mut stream, _) = listener.accept().expect("a client");
    let mut session = Session::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).expect("bytes of the client");
        if count == 0 {
            return table;
        }
        session.receive(&buffer[..count]);
        loop {
            let progress = session.step(&mut table);
            let length = session.output().len();
            if progress == Progress::Waiting && length == 0 {
                break;
            }
            stream.write_all(session.output()).expect("a reader");
            session.consume_output(length);
        }
    }
}

/// Runs one lvsadm against a table, and returns both.
fn with_table(test: &str, table: Table, args: &[&str], input: &str) -> (Output, Table) {
    let path = socket(test);
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || serve(&listener, table));
    let output = lvsadm(&path, args, input);
    (output, server.join().expect("the server ends"))
}

#[test]
fn without_a_director_it_says_so() {
    let path = socket("absent");
    let output = lvsadm(&path, &["-Ln"], "");
    let expected = format!(
        "Can't initialize ipvs: No such file or directory\n\
         The director is not running at {}: start it, or name its socket in LVS_CONTROL.\n",
        path.display()
    );
    assert_eq!(text(&output.stderr), expected);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_director_that_goes_away_is_noticed() {
    let path = socket("gone");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || drop(listener.accept()));
    let output = lvsadm(&path, &["-Ln"], "");
    server.join().expect("the server ends");
    let first = text(&output.stderr).lines().next().unwrap_or_default();
    assert!(first.starts_with("Can't initialize ipvs: "), "{first}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_restore_needs_one_connection() {
    let mut rules = String::new();
    for port in 1..=1000 {
        rules += &format!("-A -t 10.0.0.1:{port} -s rr\n");
        rules += &format!("-a -t 10.0.0.1:{port} -r 10.1.0.1:80 -m\n");
    }
    let (output, table) = with_table("restore", Table::default(), &["-R"], &rules);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    assert_eq!(table.services.len(), 1000);
    assert!(table.services.iter().all(|view| view.servers.len() == 1));
}

#[test]
fn a_hundred_thousand_connections_are_listed() {
    let mut table = Table::default();
    table.connections = (0..100_000u32)
        .map(|number| ConnectionView {
            protocol: Protocol::TCP,
            expires_ms: 900_000,
            state: "ESTABLISHED".to_owned(),
            client: Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
            client_port: 1234,
            virtual_address: Ipv4Addr::new(192, 0, 2, 1).into(),
            virtual_port: 80,
            destination: Ipv4Addr::new(10, 1, 0, 1).into(),
            destination_port: 80,
            engine: None,
        })
        .collect();
    let (output, _) = with_table("many", table, &["-Lnc"], "");
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 100_002);
    let last = "TCP 15:00  ESTABLISHED 10.1.134.159:1234  192.0.2.1:80       10.1.0.1:80";
    assert_eq!(lines.last(), Some(&last));
}
