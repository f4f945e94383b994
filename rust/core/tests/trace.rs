// SPDX-License-Identifier: GPL-2.0

//! The words of the trace events (rust/host/trace.h) are those of the core, with its numbers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use gvahint_core::plan::Reason;
use gvahint_core::policy::{Flush, Timing};
use gvahint_core::wire::*;

/// The numbers and words of `gvahint_show_NAME`.
fn words(name: &str) -> Vec<(u64, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/trace.h");
    let text = std::fs::read_to_string(path).unwrap();
    let start = format!("#define gvahint_show_{name}(");
    let (_, body) = text.split_once(&start).unwrap();
    let (body, _) = body.split_once("\n\n").unwrap();
    let pair = |text: &str| {
        let (number, rest) = text.split_once(',').unwrap();
        let word = rest.split('"').nth(1).unwrap();
        (number.trim().parse().unwrap(), word.to_owned())
    };
    body.split('{').skip(1).map(pair).collect()
}

/// The words that a program of tools/bpftrace keeps in a map.
fn program(name: &str, map: &str) -> Vec<(u64, String)> {
    let path = format!("{}/../../tools/bpftrace/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let entry = |line: &str| {
        let rest = line.trim().strip_prefix(&format!("@{map}["))?;
        let (number, word) = rest.split_once("] = \"")?;
        Some((
            number.parse().unwrap(),
            word.trim_end_matches("\";").to_owned(),
        ))
    };
    text.lines().filter_map(entry).collect()
}

/// What comes behind the words of an enumeration where there may be none.
const NONE: (u64, &str) = (255, "-");

// Each of these fails if a word is missing in one of the two, is another, or has another number.
macro_rules! same_words {
    ($test:ident, $name:literal, $Enum:ident, $more:expr) => {
        #[test]
        fn $test() {
            let ours = $Enum::ALL.iter().map(|v| (u64::from(v.to_u8()), v.name()));
            let ours: Vec<_> = ours.chain($more).map(|(n, w)| (n, w.to_owned())).collect();
            assert_eq!(words($name), ours);
        }
    };
}

same_words!(reasons, "reason", Reason, [NONE]);
same_words!(policies, "policy", Flush, []);
same_words!(timings, "timing", Timing, []);

// Fails if a program has a word of its own.
#[test]
fn words_of_the_programs() {
    let reasons = Reason::ALL
        .iter()
        .map(|v| (u64::from(v.to_u8()), v.name().to_owned()));
    assert!(program("invept.bt", "reason").into_iter().eq(reasons));
    assert_eq!(program("invept.bt", "policy"), words("policy"));
}

#[test]
fn operations() {
    let ours = [
        (OP_LINEAR, "linear"),
        (OP_REPORT, "report"),
        (OP_CANARY, "canary"),
        (OP_BYE, "bye"),
        (OP_HELLO, "hello"),
        (OP_WANTED, "wanted"),
    ];
    let ours: Vec<_> = ours.map(|(n, w)| (n, w.to_owned())).into();
    assert_eq!(words("op"), ours);
}

#[test]
fn errors() {
    let theirs = words("error");
    let known = |number: &u64| Errno::from_answer(-i64::try_from(*number).unwrap()).is_some();
    assert_eq!(theirs[0], (0, "-".to_owned()));
    assert!(theirs.iter().skip(1).all(|(number, _)| known(number)));
    // Each error that a guest can get has a word.
    let all = (1..2_000).filter(known);
    assert!(all.eq(theirs.iter().skip(1).map(|(number, _)| *number)));
}
