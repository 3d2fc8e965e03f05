//! `lvsadm proc ip_vs|ip_vs_conn|ip_vs_stats`: the kernel's files, for what reads them.

use super::{Failure, Run};
use crate::control::text::proc;

impl Run<'_> {
    /// Each file that is named, one after the other.
    pub(super) fn proc(&mut self, files: &[String]) -> u8 {
        let done = if files.is_empty() {
            Err(unknown(""))
        } else {
            files.iter().try_for_each(|file| self.file(file))
        };
        self.report(done).exit
    }

    fn file(&mut self, name: &str) -> Result<(), Failure> {
        match name {
            "ip_vs" => {
                let (info, services) = (self.api.info()?, self.api.services()?);
                self.terminal.out(&proc::services(&info, &services));
            }
            "ip_vs_conn" => {
                let (api, terminal) = (&mut *self.api, &mut *self.terminal);
                terminal.out(proc::CONNECTIONS);
                api.connections(&mut |view| terminal.out(&proc::connection(&view)))?;
            }
            "ip_vs_stats" => {
                let totals = self.api.totals()?;
                self.terminal.out(&proc::totals(&totals));
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Failure {
    let there = "there are ip_vs, ip_vs_conn and ip_vs_stats";
    Failure::Refused(format!("there is no file `{name}': {there}"))
}
