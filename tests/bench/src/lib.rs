// SPDX-License-Identifier: GPL-2.0

//! What the core costs, against what one would use instead.
//!
//! | module | |
//! |---|---|
//! | [`guest`] | a guest's memory, as the buffers of its reports |
//! | [`ours`], [`arena`] | the core's hint table with storage shaped like the host's |
//! | [`maps`], [`peers`] | the job that all tables do, and the rivals |
//! | [`pages`], [`flushes`] | what is measured: the lookups, and the log |
//! | [`child`], [`process`] | one table built in a process of its own |
//! | [`counts`], [`ratios`] | what callgrind and criterion left behind |
//! | [`rows`], [`aims`], [`chart`] | report.json, the aims, the chart |

pub mod aims;
pub mod arena;
pub mod chart;
pub mod child;
pub mod counts;
pub mod flushes;
pub mod guest;
pub mod maps;
pub mod ours;
pub mod pages;
pub mod peers;
pub mod process;
pub mod ratios;
pub mod rows;
