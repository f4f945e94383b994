// SPDX-License-Identifier: GPL-2.0
//! Interruptions that end what is going on in good order: ^C, SIGTERM, SIGHUP.

use crate::failure::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a wait looks for an interruption.
const STEP: Duration = Duration::from_millis(50);

/// How long whoever is interrupted may take to leave in good order.
const GRACE: Duration = Duration::from_secs(1);

/// Set by the first interruption.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on signals set the flag and don't end the process.
    pub fn on_signals() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Calls `last` and ends the process if it does not end by itself once that is wanted, or once the
    /// terminal is gone, which no signal tells of where the shell ignores SIGHUP (nohup): waiting for a key
    /// never ends there.
    pub fn insist(&self, last: impl FnOnce() + Send + 'static) {
        let stop = self.clone();
        thread::spawn(move || {
            while !stop.wanted() && io::stdout().is_terminal() {
                thread::sleep(STEP);
            }
            stop.0.store(true, Ordering::Relaxed);
            thread::sleep(GRACE);
            last();
            std::process::exit(0);
        });
    }

    /// Whether somebody wants an end.
    pub fn wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits, less if somebody wants an end.
    pub fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.wanted() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(STEP));
        }
    }
}
