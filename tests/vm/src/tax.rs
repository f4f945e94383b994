// SPDX-License-Identifier: GPL-2.0
//! What reporting costs a guest: entries of `tax` and `reporter` in report.json.

use serde::{Deserialize, Serialize};

/// Guest instructions for one operation, in each block of a boot.
pub type Blocks = Vec<f64>;

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
    /// With the reporter loaded, and switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<f64>,
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
    /// By how much `quiet` is more than `disabled`, in each of the same boots: shares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reporting_boots: Vec<f64>,
}

impl Tax {
    /// Adds a boot without our series; the first one is shown by itself.
    pub fn add_absent(&mut self, blocks: &Blocks) {
        self.absent = self.absent.or(Some(mean(blocks)));
        self.absent_boots.push(mean(blocks));
        self.spread = self.spread.max(spread(blocks));
    }

    /// Adds a boot with it: `off`, `disabled`, `quiet` and, if it was measured, `on`.
    pub fn add_with(&mut self, settings: &[Blocks]) {
        let [off, disabled, quiet, on @ ..] = settings else {
            return;
        };
        self.off = self.off.or(Some(mean(off)));
        self.disabled = self.disabled.or(Some(mean(disabled)));
        self.quiet = self.quiet.or(Some(mean(quiet)));
        self.on = self.on.or(on.first().map(mean));
        self.off_boots.push(mean(off));
        self.reporting_boots
            .push(mean(quiet) / mean(disabled) - 1.0);
        let spreads = [off, disabled, quiet].map(spread);
        self.spread = spreads.into_iter().fold(self.spread, f64::max);
    }

    /// Says so if reporting costs more than one in a hundred instructions, by the median of the boots; or
    /// if it does with what the series costs without it, and boots of one kernel do not differ by as much.
    pub fn excess(&self) -> Option<String> {
        const MOST: f64 = 0.01;
        let [_, reporting, _] = range(&self.reporting_boots)?;
        if reporting > MOST {
            return Some(format!("{}: {:+.2} %", self.operation, 100.0 * reporting));
        }
        let ([least, absent, most], [_, off, _]) =
            (range(&self.absent_boots)?, range(&self.off_boots)?);
        let whole = off / absent * (1.0 + reporting) - 1.0;
        (whole > MOST + (most - least) / absent)
            .then(|| format!("{}: {:+.2} % over no series", self.operation, 100.0 * whole))
    }

    /// Prints the line that the host side collects.
    pub fn print(&self) -> anyhow::Result<()> {
        println!("TAX {}", serde_json::to_string(self)?);
        Ok(())
    }
}

fn mean(blocks: &Blocks) -> f64 {
    blocks.iter().sum::<f64>() / blocks.len() as f64
}

/// Largest distance of a block from the mean: a share.
fn spread(blocks: &Blocks) -> f64 {
    let mean = mean(blocks);
    let far = blocks.iter().map(|block| (block / mean - 1.0).abs());
    far.fold(0.0, f64::max)
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
    use super::{more, range, Tax};

    // Fails if another boot than the first is shown, reporting is compared with something else, or a block
    // is left out.
    #[test]
    fn boots_are_compared_with_themselves() {
        let mut tax = Tax::default();
        tax.add_with(&[vec![99.0, 101.0], vec![102.0], vec![103.0], vec![104.0]]);
        tax.add_with(&[vec![200.0], vec![208.0], vec![210.0]]);
        tax.add_absent(&vec![90.0]);
        let shown = [tax.absent, tax.off, tax.disabled, tax.quiet, tax.on];
        assert_eq!(
            shown.map(Option::unwrap),
            [90.0, 100.0, 102.0, 103.0, 104.0]
        );
        assert_eq!((tax.absent_boots.len(), tax.off_boots.len()), (1, 2));
        assert_eq!(
            tax.reporting_boots,
            [103.0 / 102.0 - 1.0, 210.0 / 208.0 - 1.0]
        );
        assert!((tax.spread - 0.01).abs() < 1e-9, "{}", tax.spread);
    }

    // Fails if too much passes, or too little does not; if the series itself counts for nothing, or boots
    // that differ count as cost.
    #[test]
    fn excess_is_by_medians() {
        let tax = |absent: [f64; 3], off: f64, reporting: [f64; 3]| Tax {
            absent_boots: absent.into(),
            off_boots: vec![off],
            reporting_boots: reporting.into(),
            ..Tax::default()
        };
        let alike = [1000.0, 1000.0, 1000.0];
        for (tax, exceeds) in [
            (tax(alike, 1000.0, [0.009, 0.008, 0.020]), false),
            (tax(alike, 1000.0, [0.011, 0.008, 0.020]), true),
            (tax(alike, 1006.0, [0.005, 0.005, 0.005]), true),
            (tax([990.0, 1000.0, 1010.0], 1006.0, [0.005; 3]), false),
        ] {
            assert_eq!(tax.excess().is_some(), exceeds, "{tax:?}");
        }
    }

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
