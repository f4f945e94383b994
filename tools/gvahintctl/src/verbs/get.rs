// SPDX-License-Identifier: GPL-2.0
//! `get`: what knobs are set to, in the form that `set --file` takes.

use super::{json_line, print};
use crate::failure::Result;
use crate::host::Host;
use crate::knobs::{Knob, KNOBS};
use crate::snapshot::{value, Values};
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;

/// Show what the knobs are set to
///
/// Without a name it prints all of them as `KNOB = VALUE`, which `set --file` takes; with one name, its value
/// alone.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gvahintctl get
  gvahintctl get clear_young/timing
  gvahintctl get --vm 3
  # to set it again later: gvahintctl set --file /etc/gvahint.conf
  gvahintctl get >/etc/gvahint.conf.new && mv /etc/gvahint.conf.new /etc/gvahint.conf")]
pub struct Arguments {
    /// What this VM sets for itself; `inherit` where the global value counts
    #[arg(long, value_name = "ID")]
    vm: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Which knobs
    #[arg(value_name = "KNOB")]
    names: Vec<String>,
}

#[derive(Serialize)]
struct Set {
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<u64>,
    knobs: Values,
}

impl Arguments {
    /// Prints them.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        let mut wanted: Vec<&Knob> = Vec::new();
        for name in &self.names {
            let knob = Knob::find(name)?;
            knob.check_vm(self.vm.is_some())?;
            wanted.push(knob);
        }
        host.need_module()?;
        if wanted.is_empty() {
            wanted.extend(KNOBS.iter().filter(|knob| self.vm.is_none() || knob.of_vm));
        }
        let mut knobs = Vec::new();
        for knob in wanted {
            knobs.push((knob.name, value(host, knob, self.vm)?));
        }
        let text = match (&knobs[..], self.json) {
            (_, true) => json_line(Set {
                vm: self.vm,
                knobs: knobs.into_iter().collect(),
            })?,
            ([(_, value)], false) if self.names.len() == 1 => format!("{value}\n"),
            (all, false) => all
                .iter()
                .map(|(name, value)| format!("{name} = {value}\n"))
                .collect(),
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
