// SPDX-License-Identifier: GPL-2.0
//! `explain`: why full flushes happened, in words and shares.

mod reasoning;

use super::{complain, json_line, print, seconds, tell};
use crate::failure::Result;
use crate::host::Host;
use crate::numbers::{counted, grouped, percent};
use crate::paint::Paint;
use crate::snapshot::{Snapshot, Vm};
use crate::stop::Stop;
use crate::table::wrapped;
use clap::Args;
use reasoning::Explanation;
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

/// Lines of prose end here.
const WIDTH: usize = 100;

/// Say why full flushes (INVEPT) happened: by reason, with what each means and what helps
///
/// Counts are since the VM was attached, or over an interval from now on; ^C ends it early. Shares are of the
/// pages that were aged without a complete hint: one flush serves all pages of a call, so there are fewer
/// flushes than pages where DAMON, MGLRU or reclaim age ranges. Flushes that KVM does by itself, without being
/// asked by the module, are not among them. A VM that was attached in the interval, also by a module that was
/// reloaded, is counted from then on.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gvahintctl explain
  gvahintctl explain --vm 3 --interval 10
  gvahintctl explain --json | jq '.vms[].reasons[] | {reason, share}'")]
pub struct Arguments {
    /// This VM only
    #[arg(long, value_name = "ID")]
    vm: Option<u64>,
    /// Over so many seconds from now on, not since the VM was attached
    #[arg(short, long, value_name = "S", value_parser = seconds)]
    interval: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Explanations {
    seconds: Option<f64>,
    vms: Vec<Explanation>,
}

impl Arguments {
    /// Explains it.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        let first = self.take(host)?;
        let (before, now) = match self.interval {
            None => (None, first),
            Some(seconds) => {
                if io::stderr().is_terminal() {
                    tell(&format!("watching for {seconds} s; ^C ends it early\n"));
                }
                Stop::on_signals()?.sleep(Duration::from_secs_f64(seconds));
                (Some(first), self.take(host)?)
            }
        };
        let wanted = now
            .vms
            .iter()
            .filter(|vm| self.vm.is_none_or(|id| vm.id == id));
        let explained = Explanations {
            seconds: before
                .as_ref()
                .map(|before| (now.taken - before.taken).as_secs_f64()),
            vms: wanted
                .map(|vm| Explanation::of(before.as_ref(), &now, vm))
                .collect(),
        };
        match self.json {
            true => print(&json_line(&explained)?)?,
            false => print(&text(&explained, &Paint::of(&io::stdout())))?,
        }
        Ok(complain(&now.complaints))
    }

    /// A snapshot; fails if the VM that was named is not in it.
    fn take(&self, host: &Host) -> Result<Snapshot> {
        let snapshot = Snapshot::take(host)?;
        match self.vm {
            Some(id) if snapshot.vm(id).is_none() => {
                let why = Vm::take(host, id).err();
                Err(why.unwrap_or_else(|| host.no_vm(&id.to_string())))
            }
            _ => Ok(snapshot),
        }
    }
}

fn text(explained: &Explanations, paint: &Paint) -> String {
    if explained.vms.is_empty() {
        return "no VMs\n".to_owned();
    }
    let since = match explained.seconds {
        None => "Since it was attached".to_owned(),
        Some(seconds) => format!("In {seconds:.1} s"),
    };
    let each = explained.vms.iter().map(|vm| one(vm, &since, paint));
    each.collect::<Vec<_>>().join("\n")
}

fn one(e: &Explanation, since: &str, paint: &Paint) -> String {
    let mut text = format!(
        "{} is {}: {}.\n",
        paint.bold(&e.name),
        e.state,
        e.state_meaning
    );
    text += &remedy(e.state_remedy);
    text += &format!("  {since}: {} aged", counted(e.aged, "page", "pages"));
    text += &match e.coverage {
        None => "; none needed a hint.\n".to_owned(),
        Some(share) => {
            let asked = e.covered + e.uncovered;
            let (covered, asked) = (grouped(e.covered), grouped(asked));
            format!(
                "; {covered} of {asked} had a complete hint ({}).\n",
                percent(share)
            )
        }
    };
    text += &format!(
        "  Full flushes (INVEPT): ageing asked for {}, vCPUs executed {}; {} by KVM itself served the log.\n",
        grouped(e.full.asked),
        grouped(e.full.executed),
        counted(e.superseded, "flush", "flushes"),
    );
    for remark in &e.remarks {
        text += &wrapped(remark, WIDTH, "  ");
    }
    if !e.reasons.is_empty() {
        text += "  Pages without a complete hint, by reason:\n";
    }
    for reason in &e.reasons {
        let line = format!(
            "{:>7}  {:>9}  {}",
            percent(reason.share),
            grouped(reason.pages),
            reason.name
        );
        text += &format!("  {}: {}\n", paint.bold(&line), reason.meaning);
        text += &remedy(reason.remedy);
    }
    if e.context.executed > 0 || e.context.asked > 0 {
        text += &format!(
            "  Flushes of a VPID (INVVPID, single context): ageing asked for {}, vCPUs executed {}; {} only so.\n",
            grouped(e.context.asked),
            grouped(e.context.executed),
            counted(e.covered_context, "page was covered", "pages were covered"),
        );
    }
    for escalation in &e.escalations {
        text += &format!(
            "    {}  {}: {}\n",
            grouped(escalation.pages),
            escalation.name,
            escalation.meaning
        );
        text += &remedy(escalation.remedy);
    }
    text
}

fn remedy(remedy: Option<&str>) -> String {
    remedy.map_or(String::new(), |text| {
        wrapped(&format!("-> {text}"), WIDTH, "      ")
    })
}
