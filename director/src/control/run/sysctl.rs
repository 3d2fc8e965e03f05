//! `lvsadm sysctl [NAME[=VALUE]]...`: the switches of `net.ipv4.vs`, in the manner of sysctl(8).

use super::{Failure, Run};
use crate::core::operation::Operation;

impl Run<'_> {
    /// Without a word all switches are printed. The first word that fails ends it.
    pub(super) fn sysctl(&mut self, words: &[String]) -> u8 {
        // Old scripts say `-w`, which makes no difference.
        let words: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .filter(|&w| w != "-w")
            .collect();
        let done = if words.is_empty() {
            self.show_switches(None)
        } else {
            words.iter().try_for_each(|word| self.switch(word))
        };
        self.report(done).exit
    }

    /// `NAME` or `NAME=VALUE`
    fn switch(&mut self, word: &str) -> Result<(), Failure> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        if let Some(value) = value {
            let Ok(value) = value.trim().parse() else {
                let sentence = format!("`{value}' is not a number: write {name}=1");
                return Err(Failure::Refused(sentence));
            };
            let name = name.to_owned();
            let operation = Operation::SetSysctl { name, value };
            self.api.apply(&operation)?;
        }
        self.show_switches(Some(name))
    }

    fn show_switches(&mut self, name: Option<&str>) -> Result<(), Failure> {
        let all = self.api.sysctls()?;
        let mut shown = all
            .iter()
            .filter(|view| name.is_none_or(|name| view.name == name));
        let mut text = String::new();
        for view in &mut shown {
            text += &format!("{PREFIX}{} = {}\n", view.name, view.value);
        }
        match (text.is_empty(), name) {
            (true, Some(name)) => Err(Failure::Refused(format!(
                "there is no {PREFIX}{name}; `lvsadm sysctl' shows what there is"
            ))),
            _ => {
                self.terminal.out(&text);
                Ok(())
            }
        }
    }
}

const PREFIX: &str = "net.ipv4.vs.";
