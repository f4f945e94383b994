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
//! | checked sets enter the table | [`report`], [`table`], [`linear`] |
//! | an aged page is looked up, a decision made | [`plan`], [`policy`] |
//! | what to drop is published, vCPUs drain it | [`log`] |
//! | what happened is counted | [`counters`] |
//!
//! The rule under all of it: whatever is unknown, old, full, malformed or
//! racing makes a page *uncovered*, which costs a flush and never an access.

#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod names;

pub mod addr;
pub mod cast;
pub mod counters;
pub mod linear;
pub mod log;
pub mod plan;
pub mod policy;
pub mod report;
pub mod session;
mod slot;
pub mod sync;
pub mod table;
pub mod tunables;
pub mod wire;
pub mod writer;
