// SPDX-License-Identifier: GPL-2.0
//! Pages that stay where they are, in use all the time, and are reached at other addresses whenever the
//! host asks for that.

use super::random::ensure_huge;
use crate::inside::map::Map;
use crate::inside::truth::{Frames, Mailbox};
use crate::inside::uffd::Uffd;
use crate::inside::Task;
use crate::mailbox::Phase;
use anyhow::{bail, ensure, Context, Result};
use gvahint_vm::{LARGE, PAGE};
use std::ffi::CString;
use std::fs::File;
use std::ops::Range;
use std::os::fd::FromRawFd;
use std::sync::atomic::Ordering;

/// Bytes of a mapping that moves page by page.
const MAPPING: u64 = 32 * PAGE;

/// mremap to another address: half of it in small mappings; half in large ones, whose page tables move,
/// or whose huge pages do.
pub fn moved(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let (small, restless) = if task.huge {
        (0, 0..(LARGE / PAGE) as usize)
    } else {
        (task.bytes / 2, RESTLESS)
    };
    let mut maps = mappings(small)?;
    for _ in 0..(task.bytes - small) / LARGE {
        maps.push(Map::anonymous(LARGE, task.huge)?);
    }
    wander(
        maps,
        restless,
        task,
        mailbox,
        |_| true,
        |maps| {
            let places = places(&maps)?;
            for map in maps.iter().chain(&places) {
                ensure!(
                    map.len() != LARGE || map.start().is_multiple_of(LARGE),
                    "no table moves as a whole from or to {:x}",
                    map.start()
                );
            }
            let pairs = maps.into_iter().zip(places);
            let maps = pairs.map(|(map, place)| map.onto(place)).collect();
            if task.huge {
                ensure_huge(task.bytes)?;
            }
            maps
        },
    )
}

/// UFFDIO_MOVE to another address, page by page.
pub fn handed(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let uffd = Uffd::new()?;
    wander(
        mappings(task.bytes)?,
        RESTLESS,
        task,
        mailbox,
        |_| true,
        |maps| {
            let pairs = places(&maps)?.into_iter().zip(maps);
            pairs.map(|(place, map)| uffd.hand(map, place)).collect()
        },
    )
}

/// Memory of so many bytes, in small mappings.
fn mappings(bytes: u64) -> Result<Vec<Map>> {
    (0..bytes / MAPPING)
        .map(|_| Map::anonymous(MAPPING, false))
        .collect()
}

/// A place for each mapping, all of them made before one is used: none is where another page was a
/// moment ago, and is still known to be.
fn places(maps: &[Map]) -> Result<Vec<Map>> {
    maps.iter().map(|map| Map::plain(map.len())).collect()
}

/// The file is mapped once more, and touched through that mapping only. The older one stays.
pub fn aliased(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let name = CString::new("aliased")?;
    // SAFETY: The name is terminated and lives over the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), 0) };
    if fd < 0 {
        bail!("memfd_create: {}", std::io::Error::last_os_error());
    }
    // SAFETY: It was just opened and nobody else has it.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(task.bytes)?;
    let bytes = task.bytes;
    let mut older = Vec::new();
    let first = Map::shared(&file, 0, bytes)?;
    wander(
        vec![first],
        RESTLESS,
        task,
        mailbox,
        |_| true,
        |maps| {
            older.extend(maps);
            Ok(vec![Map::shared(&file, 0, bytes)?])
        },
    )
}

/// Huge pages, each of which loses its first small one and is mapped by 511 of them then. Where the
/// host's page is huge, too, a host that was not told drops the translation of that one, and not of the
/// others. Its place is never touched: a page new to the host, it would have everything flushed.
pub fn split(task: &Task, mailbox: &Mailbox) -> Result<()> {
    let map = Map::anonymous(task.bytes, true)?;
    let start = map.start();
    let first = start.next_multiple_of(LARGE) - start;
    let kept = |page: &usize| !(start + *page as u64 * PAGE).is_multiple_of(LARGE);
    wander(vec![map], RESTLESS, task, mailbox, kept, |maps| {
        let map = maps.first().context("the mapping")?;
        for offset in (first..task.bytes).step_by(LARGE as usize) {
            map.discard(offset, PAGE)?;
        }
        Ok(maps)
    })
}

/// A page of the first mapping whose translation goes, sweep by sweep, once there was a change: the host
/// sees it, asks for its hint, and has everything flushed when that is too old. Were there none, pages
/// that are falsely idle stayed so: what has no accessed bit is not flushed.
const RESTLESS: Range<usize> = 1..2;

/// Touches the pages that `touched` takes of each mapping, sweep by sweep; changes their addresses by
/// `change` when asked, and tells.
fn wander(
    mut maps: Vec<Map>,
    restless: Range<usize>,
    task: &Task,
    mailbox: &Mailbox,
    touched: impl Fn(&usize) -> bool,
    mut change: impl FnMut(Vec<Map>) -> Result<Vec<Map>>,
) -> Result<()> {
    let mut frames = Frames::new()?;
    let mut changes = 0;
    mailbox.phase(Phase::Running);
    while !mailbox.stopped() {
        if changes < mailbox.asked() {
            maps = change(maps)?;
            changes += 1;
            mailbox.figure(0, changes);
        }
        for map in &maps {
            let pages: Vec<usize> = (0..map.pages()).filter(&touched).collect();
            frames.touch(mailbox, map, &pages, |page| {
                map.page(page).fetch_add(1, Ordering::Relaxed);
            })?;
        }
        if let Some(map) = maps.first().filter(|_| task.restless && changes > 0) {
            map.forget(restless.clone())?;
        }
        mailbox.swept();
    }
    Ok(())
}
