// SPDX-License-Identifier: GPL-2.0
//! Shares of trials and what they allow to conclude.

use serde::Serialize;

/// Confidence of all intervals.
pub const CONFIDENCE: f64 = 0.95;
/// The normal distribution's quantile for that, on both sides.
const Z: f64 = 1.959_964;

/// Trials with one outcome among all, with its confidence interval (Wilson).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// With that outcome.
    pub count: u64,
    /// All.
    pub trials: u64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    /// `count` of `trials`. Without a trial nothing is known.
    pub fn new(count: u64, trials: u64) -> Self {
        let (mut low, mut high) = (0.0, 1.0);
        if trials > 0 {
            let (n, p) = (trials as f64, count as f64 / trials as f64);
            let z2 = Z * Z;
            let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
            let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
            (low, high) = ((center - half).max(0.0), (center + half).min(1.0));
        }
        Self {
            count,
            trials,
            low,
            high,
        }
    }
}

/// From where to where a probability lies, as far as the trials can tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How probable it is that a touched page stays idle though its translation was dropped: `back` is the
/// share of touched pages that came back after that, `anyway` holds the shares that came back in the
/// controls, where nothing was dropped or touched, and by which the trials show less than they seem to.
pub fn stale(back: &Share, anyway: &[Share]) -> Interval {
    let most = |end: fn(&Share) -> f64| anyway.iter().map(end).fold(0.0, f64::max);
    let among = |missed: f64, shown: f64| match shown > 0.0 {
        true => (missed / shown).clamp(0.0, 1.0),
        false => 1.0,
    };
    Interval {
        low: among(1.0 - back.high, 1.0 - most(|share| share.low)),
        high: among(1.0 - back.low, 1.0 - most(|share| share.high)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 5e-4
    }

    // Fails if the interval is not Wilson's, as published tables have it.
    #[test]
    fn intervals_are_wilsons() {
        for (count, trials, low, high) in [
            (0, 10, 0.0, 0.2775),
            (1, 10, 0.0179, 0.4042),
            (5, 10, 0.2366, 0.7634),
            (10, 10, 0.7225, 1.0),
            (400, 400, 0.9905, 1.0),
            (81, 263, 0.2553, 0.3662),
        ] {
            let share = Share::new(count, trials);
            assert!(near(share.low, low) && near(share.high, high), "{share:?}");
        }
    }

    // Fails if no trial passes for knowledge.
    #[test]
    fn nothing_is_known_without_trials() {
        let nothing = Share::new(0, 0);
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
        let unknown = stale(&nothing, &[]);
        assert_eq!((unknown.low, unknown.high), (0.0, 1.0));
    }

    // Fails if more trials make an interval wider, or its ends change places.
    #[test]
    fn trials_narrow_intervals() {
        for percent in [0, 3, 50, 99, 100] {
            let width = |n: u64| {
                let share = Share::new(n * percent / 100, n);
                assert!(share.low <= share.high);
                share.high - share.low
            };
            let widths: Vec<_> = [100, 400, 1600, 6400].map(width).into();
            assert!(widths.windows(2).all(|two| two[1] < two[0]), "{widths:?}");
        }
    }

    // Fails if pages that come back by themselves make drops look better than they are: if half of all
    // come back anyway, each miss counts twice.
    #[test]
    fn controls_weaken_what_is_shown() {
        let back = Share::new(1980, 2000);
        let clean = stale(&back, &[Share::new(0, 2000)]);
        let noisy = stale(&back, &[Share::new(0, 2000), Share::new(1000, 2000)]);
        assert!(
            near(clean.low, 0.0065) && near(clean.high, 0.0154),
            "{clean:?}"
        );
        assert!(noisy.low > 1.9 * clean.low && noisy.high > 2.0 * clean.high);
        // Where everything comes back anyway, nothing is shown.
        let blind = stale(&Share::new(500, 500), &[Share::new(500, 500)]);
        assert_eq!(blind.high, 1.0);
    }
}
