// SPDX-License-Identifier: GPL-2.0
//! Tables of text: columns as wide as what they hold.

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// A heading and rows of the same length, as lines.
pub fn lines(heading: &[(&str, Side)], rows: &[Vec<String>]) -> Vec<String> {
    let heads: Vec<String> = heading.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all = || std::iter::once(&heads).chain(rows);
    let widths: Vec<usize> = (0..heading.len())
        .map(|i| all().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    all()
        .map(|row| {
            let cells = row.iter().zip(heading).zip(&widths);
            let cells = cells.map(|((text, (_, side)), width)| match side {
                Side::Left => format!("{text:<width$}"),
                Side::Right => format!("{text:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            line.trim_end().to_owned()
        })
        .collect()
}

/// Text in lines of at most `width`, each after `indent`.
pub fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fails if a column is narrower than its widest cell, or a cell stands on the wrong side.
    #[test]
    fn columns_fit() {
        let rows = [
            vec!["1".to_owned(), "qemu".to_owned()],
            vec!["1234".to_owned(), String::new()],
        ];
        let lines = lines(&[("VM", Side::Right), ("PROCESS", Side::Left)], &rows);
        assert_eq!(lines, ["  VM  PROCESS", "   1  qemu", "1234"]);
    }

    // Fails if a line is longer than asked for, or a word is lost.
    #[test]
    fn text_is_wrapped() {
        assert_eq!(wrapped("one two three", 9, "  "), "  one two\n  three\n");
        assert_eq!(wrapped("unbreakable", 4, ""), "unbreakable\n");
    }
}
