// SPDX-License-Identifier: GPL-2.0
//! Colour: on a terminal, and nowhere else; nor there if it is not wanted. For `top`'s screen see top.rs.

mod common;

use common::table::{host, TABLE};
use common::{verbs, Host, Ran, NOT_LOADED, USAGE};

const ESCAPE: char = '\x1b';
/// What each of these says, in the environment, is that there should be no colour.
const UNWANTED: [(&str, &str); 2] = [("NO_COLOR", "1"), ("TERM", "dumb")];
/// What other programs, and clap, go by: nothing of it counts here.
const OTHERS: [(&str, &str); 3] = [("CI", "true"), ("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")];
/// Verbs that paint what they print, and `calibrate`, which refuses a made-up host; others' text is as of old.
const PAINT: [&str; 4] = ["status", "explain", "doctor", "calibrate"];

// Fails if a verb has no colour on a terminal, or has any where it is not wanted or is no part of the format.
#[test]
fn verbs_paint_on_a_terminal() {
    let host = host();
    for row in TABLE {
        let run = |environment: &[_]| {
            row.tells(host.run_on_terminal(row.run, environment), row.well, &[])
        };
        let paints = PAINT.contains(&row.verb()) && !row.run.contains(&"--json");
        let ran = run(&[]);
        assert_eq!(ran.out.contains(ESCAPE), paints, "{:?}: {ran:#?}", row.run);
        for unwanted in UNWANTED {
            let ran = run(&[unwanted]);
            let plain = !ran.out.is_empty() && !ran.out.contains(ESCAPE);
            assert!(plain, "{unwanted:?} {:?}: {ran:#?}", row.run);
        }
    }
}

// Fails if a colour does not stand for what it does, or an empty NO_COLOR counts (no-color.org: it does not).
#[test]
fn colours_have_meanings() {
    let host = host();
    host.sysfs("calibration", "failed-invept");
    for environment in [&[][..], &[("NO_COLOR", "")]] {
        let on_terminal = |verb| host.run_on_terminal(&[verb], environment);
        on_terminal("status").says(&["\x1b[1m", "VM 2 is \x1b[33msilent\x1b[0m"]);
        on_terminal("explain").says(&["\x1b[1mVM 1 (qemu-system-x86, pid 4242)\x1b[0m"]);
        on_terminal("doctor").says(&[
            "\x1b[32mok     \x1b[0m",
            "\x1b[33mnote   \x1b[0m",
            "\x1b[31;1mproblem\x1b[0m",
        ]);
    }
}

// Fails if an error is not marked on a terminal, or is where that is not wanted.
#[test]
fn errors_are_red() {
    let run = |environment: &[_]| {
        let ran = Host::bare().run_on_terminal(&["status"], environment);
        ran.exits(NOT_LOADED)
    };
    run(&[]).says(&["\x1b[31;1merror:\x1b[0m", "\x1b[1mremedy:\x1b[0m"]);
    for unwanted in UNWANTED {
        let ran = run(&[unwanted]).says(&["error: gvahint", "remedy: load"]);
        assert!(!ran.out.contains(ESCAPE), "{ran:#?}");
    }
}

// Fails if clap's texts, help and wrong usage, have colour where ours have none, or none where ours have.
#[test]
fn help_does_as_the_verbs_do() {
    let host = Host::bare();
    for verb in verbs() {
        for (option, code) in [("--help", 0), ("--no-such-option", USAGE)] {
            let run = |environment: &[_]| {
                let ran = host.run_on_terminal(&[&verb, option], environment);
                ran.exits(code).says(&["Usage:"]).out.contains(ESCAPE)
            };
            assert!(run(&[]), "{verb} {option} has none");
            for other in OTHERS {
                assert!(run(&[other]), "{verb} {option} {other:?}");
                for unwanted in UNWANTED {
                    let both = [other, unwanted];
                    assert!(!run(&both), "{verb} {option} {both:?}");
                }
            }
        }
    }
}

// Fails if there is colour where nobody looks.
#[test]
fn there_is_none_in_a_pipe() {
    let host = host();
    for row in TABLE {
        let ran = row.tells(host.run(row.run), row.well, &[]);
        assert!(
            !ran.out.contains(ESCAPE) && !ran.err.contains(ESCAPE),
            "{ran:#?}"
        );
    }
    for arguments in [
        &["status"][..],
        &["--help"],
        &["status", "--no-such-option"],
    ] {
        let mut command = Host::bare().program(arguments);
        let ran: Ran = command.env("CLICOLOR_FORCE", "1").output().unwrap().into();
        let all = ran.out.clone() + &ran.err;
        assert!(!all.is_empty() && !all.contains(ESCAPE), "{ran:#?}");
    }
}
