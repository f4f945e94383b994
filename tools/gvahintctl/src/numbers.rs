// SPDX-License-Identifier: GPL-2.0
//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `n of something`, in the singular if it is one.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// Bytes with a binary unit, three digits or so.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"], " ")
}

/// A rate with a decimal unit.
pub fn rate(n: f64) -> String {
    scaled(n, 1000.0, &["", "k", "M", "G"], "")
}

fn scaled(mut n: f64, step: f64, units: &[&str], gap: &str) -> String {
    let mut unit = 0;
    // What would be rounded up to a full step is written as one.
    while n >= step - 0.5 && unit + 1 < units.len() {
        n /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && n < 99.95 || unit == 0 && n < 9.95 && n.fract() > 0.05);
    format!("{n:.digits$}{gap}{}", units[unit])
}

/// A share of 1 in per cent; never rounded to all or nothing.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        p if p > 99.95 && p < 100.0 => ">99.9 %".to_owned(),
        p if p > 0.0 && p < 0.05 => "<0.1 %".to_owned(),
        p => format!("{p:.1} %"),
    }
}

/// `part` of `whole`; 0 of nothing.
pub fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if a digit or a separator is lost or a unit is off by one step.
    #[test]
    fn people_read_them() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(n), text);
        }
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (150 << 20, "150 MiB"),
            (1023 << 20, "1023 MiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        for (n, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (42.0, "42"),
            (999.7, "1.0k"),
            (2.5e6, "2.5M"),
        ] {
            assert_eq!(rate(n), text);
        }
    }

    // Fails if a share that is not all reads 100 %, or one that is not nothing reads 0.
    #[test]
    fn shares_are_not_rounded_away() {
        assert_eq!(percent(1.0), "100.0 %");
        assert_eq!(percent(0.99999), ">99.9 %");
        assert_eq!(percent(0.00001), "<0.1 %");
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(percent(share(1, 3)), "33.3 %");
    }
}
