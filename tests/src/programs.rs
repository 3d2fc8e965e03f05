//! The programs of this project, as they are built for users, and those of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::host::Host;
use crate::process::{Process, scratch};
use crate::wait::{SOON, wait_for};

/// A program of ours.
///
/// # Panics
/// If it has not been built.
pub fn ours(name: &str) -> PathBuf {
    let folder = std::env::var_os("LVS_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
        PathBuf::from,
    );
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is not there: make build",
        program.display()
    );
    program
}

/// Runs `rsagent` on a host, words split at blanks: its exit code and everything that it printed.
///
/// # Panics
/// If it has not been built, or was killed.
pub fn rsagent(host: &Host, line: &str) -> (i32, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = host.output(&ours("rsagent").display().to_string(), &words);
    let printed = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it ends by itself");
    (code, String::from_utf8_lossy(&printed).into_owned())
}

/// A director on a host, and lvsadm for it.
#[derive(Debug)]
pub struct Director {
    /// The process.
    pub process: Process,
    control: PathBuf,
}

impl Director {
    /// Starts one, and waits until it forwards.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(host: &Host) -> Director {
        Director::start_with(host, &[])
    }

    /// Starts one with further options, and waits until it forwards.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_with(host: &Host, options: &[&str]) -> Director {
        Director::start_at(host, scratch("sock"), options)
    }

    /// Starts one with its control socket at a path, and waits until it forwards.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_at(host: &Host, control: PathBuf, options: &[&str]) -> Director {
        let mut command = Command::new(ours("director"));
        command.arg("--control").arg(&control).args(options);
        let process = host.spawn(command);
        let director = Director { process, control };
        let ready = wait_for(SOON, || director.lvsadm(&["-Ln"]).status.success());
        assert!(
            ready,
            "the director does not answer:\n{}",
            director.process.printed()
        );
        director
    }

    /// Where its control socket is.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Runs lvsadm.
    ///
    /// # Panics
    /// If it has not been built.
    pub fn lvsadm(&self, arguments: &[&str]) -> Output {
        Command::new(ours("lvsadm"))
            .args(arguments)
            .env("LVS_CONTROL", &self.control)
            .output()
            .expect("lvsadm can be started")
    }

    /// Runs an lvsadm command that must succeed, words split at blanks, and returns what it
    /// printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn admin(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.lvsadm(&words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lvsadm {line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Director {
    /// Why packets were dropped, each reason with their number.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn drops(&self) -> Vec<(String, u64)> {
        let status = self.admin("status");
        let lines = status.lines().skip_while(|line| *line != "dropped packets");
        let lines = lines.skip(1).take_while(|line| line.starts_with(' '));
        lines
            .filter_map(|line| {
                let (reason, packets) = line.trim().rsplit_once(' ')?;
                Some((reason.trim().to_owned(), packets.parse().ok()?))
            })
            .collect()
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.control);
    }
}

/// nginx on a host: `/` answers with a name, `/bytes` with a file, and files can be put to
/// `/put/`.
#[derive(Debug)]
pub struct Nginx {
    /// The process.
    pub process: Process,
    folder: PathBuf,
}

impl Nginx {
    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(host: &Host, name: &str, port: u16, bytes: Option<&Path>) -> Nginx {
        Nginx::listening(host, name, (port, ""), bytes, "")
    }

    /// The same, for clients of IPv6 too.
    ///
    /// # Panics
    /// If it does not start.
    pub fn of_both_families(host: &Host, port: u16, bytes: Option<&Path>) -> Nginx {
        let more = format!("listen [::]:{port} backlog=1024;");
        Nginx::listening(host, host.name(), (port, ""), bytes, &more)
    }

    /// The same by TLS, with a certificate and its key.
    ///
    /// # Panics
    /// If it does not start.
    pub fn secured(host: &Host, name: &str, port: u16, certificate: &Path, key: &Path) -> Nginx {
        let lines = format!(
            "ssl_certificate {}; ssl_certificate_key {};",
            certificate.display(),
            key.display()
        );
        Nginx::listening(host, name, (port, "ssl"), None, &lines)
    }

    /// The same for clients that begin with a header of the PROXY protocol, whom `/` answers with what it says:
    /// address and port of the client, and of whom it believes to talk to.
    ///
    /// # Panics
    /// If it does not start.
    pub fn behind_proxy(host: &Host, port: u16, bytes: Option<&Path>) -> Nginx {
        let ends = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \
                    $proxy_protocol_server_port";
        Nginx::listening(host, ends, (port, "proxy_protocol"), bytes, "")
    }

    fn listening(
        host: &Host,
        name: &str,
        (port, protocol): (u16, &str),
        bytes: Option<&Path>,
        lines: &str,
    ) -> Nginx {
        let folder = scratch("nginx");
        let at = |part: &str| folder.join(part).display().to_string();
        for part in ["", "files", "put", "temp"] {
            fs::create_dir_all(folder.join(part)).expect("a folder for nginx");
        }
        if let Some(bytes) = bytes {
            std::os::unix::fs::symlink(bytes, folder.join("files/bytes")).expect("a link");
        }
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; user root; pid {pid};\n\
             error_log stderr;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               access_log off; sendfile on; client_max_body_size 1g;\n\
               client_body_temp_path {temp}/body; proxy_temp_path {temp}/proxy;\n\
               fastcgi_temp_path {temp}/fastcgi; uwsgi_temp_path {temp}/uwsgi;\n\
               scgi_temp_path {temp}/scgi;\n\
               server {{\n\
                 listen {port} {protocol} backlog=1024; root {files}; {lines}\n\
                 location = / {{ return 200 \"{name}\\n\"; }}\n\
                 location /put/ {{ root {folder}; dav_methods PUT; }}\n\
               }}\n\
             }}\n",
            pid = at("pid"),
            temp = at("temp"),
            files = at("files"),
            folder = folder.display(),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).expect("a file for nginx");
        let mut command = Command::new("nginx");
        command
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(&folder)
            .arg("-e")
            .arg("stderr");
        let process = host.spawn(command);
        let listens = wait_for(SOON, || {
            host.run(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        assert!(listens, "nginx does not listen:\n{}", process.printed());
        Nginx { process, folder }
    }

    /// A file that was put to `/put/NAME`.
    pub fn put_file(&self, name: &str) -> PathBuf {
        self.folder.join("put").join(name)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
