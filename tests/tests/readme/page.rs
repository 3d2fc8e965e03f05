//! A chapter of README.md as what its reader would do, step by step.
//!
//! Each block begins with who does it: `# on web1 and web2`, or for a file `# /etc/lvs/rsagent.toml on web1 and
//! web2`. Commands may go on with another `# on ...`.

use std::collections::BTreeMap;
use std::fs;

use crate::lab::project;

/// A step of the reader's.
#[derive(Debug)]
pub enum Step {
    /// Writes this file.
    File {
        /// Where.
        path: String,
        /// What is in it.
        text: String,
        /// On which machines.
        on: Vec<String>,
    },
    /// Types this line.
    Command {
        /// As it stands.
        line: String,
        /// On which machines.
        on: Vec<String>,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub struct Chapter {
    /// The steps below each `**Lead.**`.
    steps: BTreeMap<String, Vec<Step>>,
    /// The rows of tables.
    pub table: Vec<String>,
    /// All of it.
    pub text: String,
}

impl Chapter {
    /// Reads the one of this title.
    pub fn read(title: &str) -> Chapter {
        let readme = readme();
        let (_, text) = readme.split_once(&format!("\n## {title}\n")).unwrap();
        let text = text.split("\n## ").next().unwrap_or(text).to_owned();
        let mut lead = "";
        let mut steps = BTreeMap::<String, Vec<Step>>::new();
        let mut table = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some((name, _)) = line
                .strip_prefix("**")
                .and_then(|rest| rest.split_once("**"))
            {
                lead = name;
            } else if let Some(language) = line.strip_prefix("```") {
                let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                steps
                    .entry(lead.to_owned())
                    .or_default()
                    .extend(block_steps(language, &block));
            } else if line.starts_with("| ") {
                table.push(line.to_owned());
            }
        }
        Chapter { steps, table, text }
    }

    /// The steps below a lead, once.
    ///
    /// # Panics
    /// If there are none.
    pub fn take(&mut self, lead: &str) -> Vec<Step> {
        self.steps
            .remove(lead)
            .unwrap_or_else(|| panic!("README.md has no steps below {lead:?}: {:?}", self.left()))
    }

    /// The leads whose steps nobody has taken.
    pub fn left(&self) -> Vec<&str> {
        self.steps.keys().map(String::as_str).collect()
    }
}

/// All of README.md.
pub fn readme() -> String {
    fs::read_to_string(project().join("README.md")).unwrap()
}

/// What a text has in single backquotes.
pub fn spans(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with("```"));
    lines
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

fn block_steps(language: &str, block: &[&str]) -> Vec<Step> {
    let first = block.first().copied().unwrap_or_default();
    if language != "sh" {
        let (path, on) = first
            .strip_prefix("# ")
            .and_then(|rest| rest.split_once(" on "))
            .unwrap_or_else(|| panic!("README.md: who has the file that begins with {first:?}?"));
        let text = block.join("\n") + "\n";
        return vec![Step::File {
            path: path.to_owned(),
            text,
            on: machines(on),
        }];
    }
    let mut on = Vec::new();
    let mut steps = Vec::new();
    for line in block {
        if let Some(names) = line.strip_prefix("# on ") {
            on = machines(names);
        } else {
            assert!(!on.is_empty(), "README.md: who types {line:?}?");
            steps.push(Step::Command {
                line: (*line).to_owned(),
                on: on.clone(),
            });
        }
    }
    steps
}

/// The names in `web1 and web2, as a comment has it`.
fn machines(names: &str) -> Vec<String> {
    let names = names.split(',').next().unwrap_or(names);
    names.split(" and ").map(str::to_owned).collect()
}
