// SPDX-License-Identifier: GPL-2.0

//! The guest's side: what a reporter says, and when.
//!
//! The counterpart of what the rest of the crate does on the host. It is told
//! what the kernel knows of a page and returns what to send; one thread runs
//! it. Only [`watch::Watch::stale`] is called by others, from any context.
//!
//! | question | module |
//! |---|---|
//! | which operation next, and what does its answer mean? | [`session`], [`state`], [`answer`], [`host`] |
//! | which linear ranges are there? | [`linear`] |
//! | what is to be said of a page? | [`pages`] |
//! | which pages have changed since? | [`watch`] |
//! | how is that written down? | [`batch`] |
//! | which page when, and when again? | [`asked`], [`pace`], [`retries`] |
//! | do hints work on this host? | [`canary`] |
//! | what happened? | [`stats`] |
//!
//! The rule under all of it: a page whose state is not known for certain is
//! not reported, and what is no longer certain is revoked.

pub mod answer;
pub mod asked;
pub mod batch;
mod bitmap;
pub mod canary;
pub mod host;
pub mod linear;
pub mod pace;
pub mod pages;
pub mod retries;
pub mod session;
pub mod state;
pub mod stats;
pub mod watch;
