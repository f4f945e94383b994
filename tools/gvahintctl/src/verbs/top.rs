// SPDX-License-Identifier: GPL-2.0
//! `top`: what happens per second, VM by VM.

mod app;
mod rows;
mod screen;

use super::{complain, is_read, json_line, seconds};
use crate::failure::{Failure, Kind, Result};
use crate::host::Host;
use crate::snapshot::Snapshot;
use crate::stop::Stop;
use crate::table;
use app::App;
use clap::Args;
use ratatui::crossterm::event;
use rows::{Row, Sort, COLUMNS};
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a key or a signal may wait.
const STEP: Duration = Duration::from_millis(100);

/// Watch the VMs: what happens per second, and why pages are uncovered
///
/// Keys: q or ^C leaves, s sorts by the next column, r reverses, arrows choose a VM, p pauses, + and - change
/// the interval, h shows the keys. COVER is the share of the pages aged in the last interval that had a
/// complete hint.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gvahintctl top
  gvahintctl top --interval 5 --sort aged
  gvahintctl top --once                 # one interval, as text
  gvahintctl top --json | jq -c '.vms[] | {id, invept: .per_second.drained_full}'")]
pub struct Arguments {
    /// Seconds between two looks
    #[arg(short, long, value_name = "S", default_value = "1", value_parser = seconds)]
    interval: f64,
    /// What the VMs are sorted by
    #[arg(short, long, value_enum, default_value = "invept")]
    sort: Sort,
    /// Print one interval and leave
    #[arg(long)]
    once: bool,
    /// Print JSON: with --once one line, otherwise one an interval
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Interval<'a> {
    seconds: f64,
    vms: &'a [Row],
}

impl Arguments {
    /// Watches until the end.
    pub fn run(self, host: &Host) -> Result<ExitCode> {
        if self.once || self.json {
            return self.lines(host);
        }
        if !io::stdout().is_terminal() {
            let what = "the live view needs a terminal, and standard output is none";
            return Err(Failure::new(Kind::Usage, what)
                .remedy("use --once for one interval as text, or --json for a line an interval"));
        }
        // Everything that can fail at once fails before the screen changes.
        let first = Snapshot::take(host)?;
        let stop = Stop::on_signals()?;
        stop.insist(|| drop(ratatui::try_restore()));
        let mut terminal = ratatui::try_init()?;
        let left = self.live(host, &stop, first, &mut terminal);
        ratatui::try_restore()?;
        left.map(|()| ExitCode::SUCCESS)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.interval)
    }

    /// Text or JSON, an interval at a time.
    fn lines(&self, host: &Host) -> Result<ExitCode> {
        let mut before = Snapshot::take(host)?;
        let stop = Stop::on_signals()?;
        loop {
            stop.sleep(self.interval());
            if stop.wanted() {
                return Ok(ExitCode::SUCCESS);
            }
            let now = Snapshot::take(host)?;
            let mut rows = rows::between(Some(&before), &now);
            self.sort.apply(&mut rows, false);
            let read = match self.json {
                true => is_read(&json_line(Interval {
                    seconds: (now.taken - before.taken).as_secs_f64(),
                    vms: &rows,
                })?)?,
                false => is_read(&text(&rows))?,
            };
            let exit = complain(&now.complaints);
            if self.once || !read {
                return Ok(exit);
            }
            before = now;
        }
    }

    fn live(
        &self,
        host: &Host,
        stop: &Stop,
        first: Snapshot,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> Result<()> {
        let mut app = App::new(first, self.sort, self.interval());
        let mut due = Instant::now() + app.interval;
        while !stop.wanted() && !app.done {
            terminal.draw(|frame| screen::draw(frame, &app))?;
            let wait = due.saturating_duration_since(Instant::now());
            if event::poll(wait.min(STEP))? {
                app.handle(&event::read()?);
                due = due.min(Instant::now() + app.interval);
            }
            if Instant::now() >= due {
                app.look(host);
                due = Instant::now() + app.interval;
            }
        }
        Ok(())
    }
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no VMs\n".to_owned();
    }
    let heading: Vec<_> = COLUMNS
        .iter()
        .map(|column| (column.head, column.side))
        .collect();
    let cells = |row: &Row| COLUMNS.iter().map(|column| (column.cell)(row)).collect();
    table::lines(&heading, &rows.iter().map(cells).collect::<Vec<_>>()).join("\n") + "\n"
}
