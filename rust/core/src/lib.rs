// SPDX-License-Identifier: GPL-2.0

//! The decisions of gvahint, without the kernel.
//!
//! A host that ages guest memory clears accessed bits and has to drop the
//! translations that would hide the next access. This crate decides which:
//! it validates what guests report, keeps it, looks it up for each aged page,
//! and runs the log through which vCPUs learn what to drop.
//!
//! It takes values and returns decisions ("sans I/O"): no pointers, no
//! allocation, no clock, no lock. Storage and time are handed in. Kbuild
//! compiles it into the kernel module, cargo for tests, from the same files.
//!
//! The way of the data, and where to read about it:
//!
//! | step | module |
//! |---|---|
//! | a hypercall's session and sequence number | [`session`] |
//! | words of a guest become checked values | [`wire`], [`addr`] |
//! | checked sets enter the table | [`report`], [`table`], [`writer`], [`linear`] |
//! | an aged page is looked up, a decision made | [`plan`], [`policy`] |
//! | what to drop is published, vCPUs drain it | [`log`] |
//! | what was aged without a hint is noted | [`wanted`] |
//! | what happened is counted | [`counters`] |
//! | a guest asks whether its hints work | [`canary`] |
//! | whose memory all that is | [`node`], [`pool`] |
//! | what a guest says, and when | [`reporter`] |
//!
//! All of it once, from a guest's words to what a vCPU drops:
//!
//! ```
//! use gvahint_core::{addr::*, counters::Counters, linear::LinearList, log::*, plan::*};
//! use gvahint_core::{node::*, policy::*, pool::*, report, sync::*, table::*, writer::*};
//!
//! // Storage comes from outside, zeroed.
//! struct Few(Vec<Box<Node>>);
//! impl Nodes for Few {
//!     fn node(&self, id: u32) -> Option<&Node> {
//!         Some(self.0.get((id as usize).checked_sub(1)?)?)
//!     }
//! }
//! let new_node = || Box::new([const { AtomicU64::new(0) }; NODE_SLOTS]);
//! let nodes = Few((0..8).map(|_| new_node()).collect());
//! let (top, shape) = (Top::new(), Shape::new(512).unwrap());
//! let ring: Vec<AtomicU64> = (0..256).map(|_| AtomicU64::new(0)).collect();
//! let [head, full, context, cursor] = [const { AtomicU64::new(0) }; 4];
//! let hints = Hints::new(&top, &nodes, shape);
//! let log = Log::new(&head, &full, &context, &ring);
//!
//! // LINEAR: a direct map. REPORT: frame 5 is mapped at 0x7000 and nowhere else.
//! let mut state = WriterState::new();
//! for id in 1..=8 {
//!     assert!(state.hand_in(&nodes, id));
//! }
//! let mut writer = Writer::new(hints, &mut state);
//! let direct_map = [0, 0xffff_8880_0000_0000, 1 << 21, 1 << 21];
//! let list = LinearList::parse(&direct_map, VaBits::Bits48).unwrap();
//! assert_eq!(writer.set_linear(&list), Ok(true));
//! writer.state().set_exhausted(true);
//! let limits = report::Limits { bits: VaBits::Bits48, max_gfn: shape.max_gfn() };
//! let set = [5 | 1 << 46 | 1 << 50, 0x7000];
//! let mut sets = report::Sets::new(&set, limits);
//! let applied = report::apply(&mut sets, 0, &mut writer, 1_000, |_, _| true);
//! assert_eq!(applied.answer(), Ok(1));
//!
//! // It may have been a page table until then: everything is flushed once.
//! let counters = Counters::new();
//! assert!(hints.owes_full());
//! flush_all(log, Some(&hints), &counters);
//! cursor.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
//!
//! // Frame 5 is aged.
//! let env = Env {
//!     policy: Policy::CLEAR_YOUNG,
//!     tunables: Tunables::DEFAULT,
//!     log,
//!     hints: Ok(hints),
//!     can_flush_gva: true,
//!     counters: &counters,
//!     wanted: None,
//!     kept: None,
//! };
//! let mut pass = Pass::default();
//! aged(&mut pass, &env, Gfn::new(5).unwrap(), Level::L4K, 2_000);
//! let outcome = finish(&mut pass, &env, 0, &AtomicU32::new(0));
//! assert_eq!(outcome.verdict, Verdict::Handled);
//! assert_eq!(outcome.kick, Kick::Within(10));
//!
//! // A vCPU enters the guest.
//! struct Dropped(Vec<u64>);
//! impl Flusher for Dropped {
//!     fn gva(&mut self, gva: Gva) -> bool {
//!         self.0.push(gva.raw());
//!         true
//!     }
//!     fn context(&mut self) {}
//!     fn full(&mut self) {}
//! }
//! let mut dropped = Dropped(Vec::new());
//! let drained = log.drain(&cursor, env.tunables.max_gvas_per_entry, &mut dropped);
//! let direct = 0xffff_8880_0000_5000; // where the guest's kernel reaches it
//! assert_eq!((drained.done, dropped.0), (Done::Gvas, vec![0x7000, direct]));
//! ```
//!
//! The rule under all of it: whatever is unknown, old, full, malformed or
//! racing makes a page *uncovered*, which costs a flush and never an access.

#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod names;

pub mod addr;
pub mod canary;
pub mod cast;
mod cells;
pub mod counters;
pub mod gvas;
pub mod kept;
pub mod leaf;
pub mod linear;
pub mod log;
pub mod node;
pub mod owed;
mod path;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod report;
pub mod reporter;
pub mod session;
mod slot;
pub mod sync;
pub mod table;
pub mod text;
pub mod tunables;
pub mod wanted;
pub mod wire;
pub mod writer;
