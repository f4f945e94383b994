// SPDX-License-Identifier: GPL-2.0
//! What reporting costs a guest: entries of `tax` and `reporter` in report.json.

use serde::{Deserialize, Serialize};

/// One operation, in guest instructions each time. A value that was not measured is absent, not 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tax {
    /// What the guest does.
    pub operation: String,
    /// How often, for one measurement.
    pub count: u64,
    /// In a kernel without our series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<f64>,
    /// With it, and without the reporter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<f64>,
    /// With the reporter, while the host ages nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<f64>,
    /// With the reporter, while the host ages all of the guest once in a thousand million instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<f64>,
    /// Largest distance of a single measurement from the mean in the settings without ageing: a share.
    pub spread: f64,
    /// As `absent`, in each of some boots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent_boots: Vec<f64>,
    /// As `off`, in each of as many boots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off_boots: Vec<f64>,
}

impl Tax {
    /// Prints the line that the host side collects.
    pub fn print(&self) -> anyhow::Result<()> {
        println!("TAX {}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// Least, median and most of some boots' values.
pub fn range(boots: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = boots.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some([*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?])
}

/// By how much a value is more than another: a share, if both were measured.
pub fn more(value: Option<f64>, than: Option<f64>) -> Option<f64> {
    let than = than.filter(|than| *than > 0.0)?;
    Some(value? / than - 1.0)
}

/// What the reporter does by itself, in one guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reporter {
    /// MiB of guest memory.
    pub memory_mib: u64,
    /// MiB of it that a process maps; most of the rest is free.
    pub mapped_mib: u64,
    /// From HELLO to the end of the first sweep.
    pub sweep_ms: u64,
    /// Pages that it looked at.
    pub swept: u64,
    /// Pages that it reported.
    pub reported: u64,
    /// Guest instructions of the sweep, without those of an idle guest in that time.
    pub sweep_instructions: u64,
    /// The same for each GiB of guest memory.
    pub sweep_instructions_per_gib: u64,
    /// Guest instructions a second of an idle guest without the reporter.
    pub idle_instructions_per_s: u64,
    /// The same with the reporter, while the host ages nothing.
    pub steady_instructions_per_s: u64,
    /// Pages that the host asked for after it had aged them.
    pub asked: u64,
    /// Guest instructions for each of these.
    pub instructions_per_asked: f64,
}

impl Reporter {
    /// Prints the line that the host side collects.
    pub fn print(&self) -> anyhow::Result<()> {
        println!("REPORTER {}", serde_json::to_string(self)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{more, range};

    // Fails if a boot is left out, or order counts.
    #[test]
    fn range_is_of_all() {
        assert_eq!(range(&[3.0, 1.0, 9.0, 2.0, 8.0]), Some([1.0, 3.0, 9.0]));
        assert_eq!(range(&[]), None);
    }

    // Fails if the share is taken of something else, or made up where there is nothing to compare.
    #[test]
    fn more_is_a_share() {
        let one_percent = more(Some(202.0), Some(200.0)).unwrap();
        assert!((one_percent - 0.01).abs() < 1e-9, "{one_percent}");
        assert_eq!(more(None, Some(200.0)), None);
        assert_eq!(more(Some(202.0), None), None);
        assert_eq!(more(Some(202.0), Some(0.0)), None);
    }
}
