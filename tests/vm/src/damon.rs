// SPDX-License-Identifier: GPL-2.0
//! DAMON over this process's memory or over the host's, through its sysfs interface.

use crate::sys;
use anyhow::Result;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

const ADMIN: &str = "/sys/kernel/mm/damon/admin/kdamonds";

/// Which addresses are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Those of this process.
    Virtual,
    /// The host's physical ones.
    Physical,
}

/// A kdamond at work; it is stopped when this is dropped.
pub struct Damon {
    kdamond: PathBuf,
}

/// A region as DAMON saw it in its last aggregation.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its addresses.
    pub range: Range<u64>,
    /// Samples that found an access.
    pub accesses: u64,
}

impl Damon {
    /// Watches `regions`, which are in order and don't overlap: one sample every `sample_us`, an
    /// aggregation every `aggregate_us`.
    pub fn start(
        space: Space,
        regions: &[Range<u64>],
        sample_us: u64,
        aggregate_us: u64,
    ) -> Result<Self> {
        let root = PathBuf::from(ADMIN);
        sys::write(root.join("nr_kdamonds"), "1")?;
        let kdamond = root.join("0");
        let context = kdamond.join("contexts/0");
        sys::write(kdamond.join("contexts/nr_contexts"), "1")?;
        let operations = match space {
            Space::Virtual => "vaddr",
            Space::Physical => "paddr",
        };
        sys::write(context.join("operations"), operations)?;
        let attrs = context.join("monitoring_attrs");
        sys::write(attrs.join("intervals/sample_us"), &sample_us.to_string())?;
        sys::write(attrs.join("intervals/aggr_us"), &aggregate_us.to_string())?;
        // The regions are given; an update would replace them by the process's own three.
        sys::write(attrs.join("intervals/update_us"), "100000000")?;
        sys::write(attrs.join("nr_regions/min"), "10")?;
        sys::write(attrs.join("nr_regions/max"), "100")?;
        sys::write(context.join("targets/nr_targets"), "1")?;
        let target = context.join("targets/0");
        if space == Space::Virtual {
            sys::write(target.join("pid_target"), &std::process::id().to_string())?;
        }
        let all = target.join("regions");
        sys::write(all.join("nr_regions"), &regions.len().to_string())?;
        for (i, region) in regions.iter().enumerate() {
            let directory = all.join(i.to_string());
            sys::write(directory.join("start"), &region.start.to_string())?;
            sys::write(directory.join("end"), &region.end.to_string())?;
        }
        // A scheme that matches everything and does nothing but count: what it tried can be read back.
        sys::write(context.join("schemes/nr_schemes"), "1")?;
        let scheme = context.join("schemes/0");
        sys::write(scheme.join("action"), "stat")?;
        for (file, max) in [("sz", u64::MAX), ("nr_accesses", 1 << 20), ("age", 1 << 20)] {
            sys::write(scheme.join("access_pattern").join(file).join("min"), "0")?;
            sys::write(
                scheme.join("access_pattern").join(file).join("max"),
                &max.to_string(),
            )?;
        }
        sys::write(kdamond.join("state"), "on")?;
        Ok(Self { kdamond })
    }

    /// Regions of the last complete aggregation; waits for one.
    pub fn regions(&self) -> Result<Vec<Region>> {
        sys::write(self.kdamond.join("state"), "update_schemes_tried_regions")?;
        let mut regions = Vec::new();
        for entry in fs::read_dir(self.kdamond.join("contexts/0/schemes/0/tried_regions"))? {
            let entry = entry?.path();
            if !entry.is_dir() {
                continue;
            }
            let number = |name: &str| -> Result<u64> { Ok(sys::read(entry.join(name))?.parse()?) };
            regions.push(Region {
                range: number("start")?..number("end")?,
                accesses: number("nr_accesses")?,
            });
        }
        regions.sort_by_key(|region: &Region| region.range.start);
        Ok(regions)
    }
}

impl Drop for Damon {
    fn drop(&mut self) {
        if let Err(error) = sys::write(self.kdamond.join("state"), "off") {
            eprintln!("# {error:#}");
        }
        sys::write(PathBuf::from(ADMIN).join("nr_kdamonds"), "0").ok();
    }
}
