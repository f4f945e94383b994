// SPDX-License-Identifier: GPL-2.0
//! What the live view shows now, and what keys change.

use super::rows::{between, Row, Sort};
use crate::failure::Failure;
use crate::host::Host;
use crate::snapshot::Snapshot;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::Duration;

/// The shortest and the longest interval that keys set.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// The live view's state.
pub struct App {
    /// The last look.
    pub now: Snapshot,
    /// A line for each VM, in order.
    pub rows: Vec<Row>,
    /// The number of the VM that was chosen.
    pub chosen: Option<u64>,
    /// What the lines are sorted by.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
    /// Between two looks.
    pub interval: Duration,
    /// Nothing changes until it is over.
    pub paused: bool,
    /// The keys are shown.
    pub help: bool,
    /// Why the last look failed.
    pub trouble: Option<Failure>,
    /// The end is wanted.
    pub done: bool,
}

impl App {
    /// Begins with a first look, which shows no rates yet.
    pub fn new(first: Snapshot, sort: Sort, interval: Duration) -> Self {
        let mut app = Self {
            rows: between(None, &first),
            now: first,
            chosen: None,
            sort,
            reverse: false,
            interval,
            paused: false,
            help: false,
            trouble: None,
            done: false,
        };
        app.arrange();
        app
    }

    /// Looks again. If that fails, what was seen last stays, with the reason.
    pub fn look(&mut self, host: &Host) {
        if self.paused {
            return;
        }
        match Snapshot::take(host) {
            Ok(now) => self.seen(now),
            Err(failure) => self.trouble = Some(failure),
        }
    }

    /// Takes the next look over.
    pub fn seen(&mut self, now: Snapshot) {
        self.rows = between(Some(&self.now), &now);
        self.trouble = now.complaints.first().cloned();
        self.now = now;
        self.arrange();
    }

    fn arrange(&mut self) {
        self.sort.apply(&mut self.rows, self.reverse);
        let there = |id: &u64| self.rows.iter().any(|row| row.vm.id == *id);
        self.chosen = self.chosen.filter(there);
    }

    /// The line that was chosen; the first one if none was.
    pub fn selected(&self) -> Option<usize> {
        let chosen = self
            .rows
            .iter()
            .position(|row| Some(row.vm.id) == self.chosen);
        chosen.or((!self.rows.is_empty()).then_some(0))
    }

    fn choose(&mut self, step: isize) {
        let last = self.rows.len().saturating_sub(1);
        let at = self
            .selected()
            .unwrap_or(0)
            .saturating_add_signed(step)
            .min(last);
        self.chosen = self.rows.get(at).map(|row| row.vm.id);
    }

    /// What a key does.
    pub fn handle(&mut self, event: &Event) {
        let Event::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press,
            ..
        }) = event
        else {
            return;
        };
        match code {
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => self.done = true,
            KeyCode::Char('q') | KeyCode::Esc => self.done = true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Char('+') => self.interval = (self.interval * 2).min(INTERVALS.1),
            KeyCode::Char('-') => self.interval = (self.interval / 2).max(INTERVALS.0),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::PageDown => self.choose(10),
            KeyCode::PageUp => self.choose(-10),
            KeyCode::Home => self.choose(isize::MIN),
            KeyCode::End => self.choose(isize::MAX),
            // For the test that a panic leaves the terminal as it was.
            #[cfg(debug_assertions)]
            KeyCode::Char('!') => panic!("as asked for"),
            _ => {}
        }
        self.arrange();
    }
}
