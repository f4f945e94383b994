// SPDX-License-Identifier: GPL-2.0
//! Workloads, one a file. Each runs until the host asks for an end.

mod abi;
mod cache;
mod canary;
mod churn;
mod fork;
mod mixed;
mod nomad;
mod random;
mod redis;
mod shared;
mod stream;
mod sweep;
mod tax;
mod zipf;

use super::truth::Mailbox;
use super::Task;
use crate::tax::WORKS;
use anyhow::Result;

type Work = fn(&Task, &Mailbox) -> Result<()>;

const ALL: &[(&str, Work)] = &[
    ("random", random::run),
    ("zipf", zipf::run),
    ("stream", stream::run),
    ("fork", fork::run),
    ("churn", churn::run),
    ("shared", shared::run),
    ("cache", cache::run),
    ("canary", canary::run),
    ("abi", abi::run),
    ("mapped", cache::run_mapped),
    ("mixed", mixed::run),
    ("redis", redis::run),
    ("moved", nomad::moved),
    ("handed", nomad::handed),
    ("aliased", nomad::aliased),
    ("split", nomad::split),
    (WORKS[0].0, tax::run),
    (WORKS[1].0, tax::run),
    (WORKS[2].0, tax::run),
    ("sweep", sweep::run),
];

/// The workload of that name.
pub fn find(name: &str) -> Option<Work> {
    let found = ALL.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// Numbers that look random and are the same in each run: xorshift64*.
pub struct Numbers(u64);

impl Numbers {
    /// From a seed; each gives another sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One in [0, 1).
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
