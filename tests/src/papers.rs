//! An authority of our own, and what it vouches for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::scratch;

/// See the [module](self).
#[derive(Debug)]
pub struct Papers {
    folder: PathBuf,
    curve: &'static str,
}

impl Papers {
    /// An authority that nobody vouches for. All keys are of this curve, such as `P-256`.
    ///
    /// # Panics
    /// Without openssl.
    pub fn new(name: &str, curve: &'static str) -> Papers {
        let folder = scratch("papers");
        fs::create_dir_all(&folder).expect("a folder for papers");
        let papers = Papers { folder, curve };
        papers.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:{curve} -nodes -days 30 -subj /CN={name} \
             -keyout ca.key -out ca.pem",
        ));
        papers
    }

    /// Its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for a name with its key, valid until so many days from now.
    ///
    /// # Panics
    /// If openssl refuses.
    pub fn issue(&self, file: &str, name: &str, days: i32) -> (PathBuf, PathBuf) {
        let extensions = format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n");
        self.sign("ca", file, name, days, &extensions);
        self.both(file)
    }

    /// The same by an authority between; the certificate comes with that one's.
    ///
    /// # Panics
    /// If openssl refuses.
    pub fn issue_between(&self, file: &str, name: &str) -> (PathBuf, PathBuf) {
        let authority = "basicConstraints=CA:TRUE\nkeyUsage=keyCertSign\n";
        self.sign("ca", "between", "between", 30, authority);
        let extensions = format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n");
        self.sign("between", file, name, 30, &extensions);
        let (certificate, key) = self.both(file);
        let read = |file: &Path| fs::read_to_string(file).expect("a certificate");
        let chain = read(&certificate) + &read(&self.folder.join("between.pem"));
        fs::write(&certificate, chain).expect("a file for certificates");
        (certificate, key)
    }

    fn both(&self, file: &str) -> (PathBuf, PathBuf) {
        let path = |kind: &str| self.folder.join(format!("{file}.{kind}"));
        (path("pem"), path("key"))
    }

    fn sign(&self, by: &str, file: &str, name: &str, days: i32, extensions: &str) {
        let curve = self.curve;
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:{curve} -nodes -subj /CN={name} \
             -keyout {file}.key -out {file}.csr"
        ));
        fs::write(self.folder.join("extensions"), extensions).expect("a file for extensions");
        let dates = format!("-days {days}");
        self.openssl(&format!(
            "x509 -req -in {file}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -sha384 {dates} \
             -extfile extensions -out {file}.pem"
        ));
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(&self.folder)
            .output()
            .unwrap_or_else(|error| panic!("openssl: {error}; make test installs it"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {line}: {errors}");
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
