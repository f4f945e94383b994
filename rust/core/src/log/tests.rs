// SPDX-License-Identifier: GPL-2.0

//! What only the inside of the log can show; the rest is in tests/log.rs.

use super::*;

/// A producer that is held up between reserve and write for a whole lap hides
/// a later entry, and notices.
#[test]
fn late_publication_is_noticed() {
    let words = [const { AtomicU64::new(0) }; 3];
    let slots = [const { AtomicU64::new(0) }; 4];
    let [head, full, context] = &words;
    let log = Log::new(head, full, context, &slots);

    let held_up = head.fetch_add(1, Ordering::AcqRel);
    for page in 1..=4 {
        assert!(log.append_gva(Gva::stored(page << 12)));
    }
    assert!(log.publish(held_up, 9 << 12));
}

/// Tags are ordered around their end, and a slot that was never written is
/// older than every tag.
#[test]
fn tags_are_ordered_over_their_wrap() {
    assert!(is_newer(2, 1));
    assert!(!is_newer(1, 2));
    assert!(!is_newer(7, 7));
    assert!(is_newer(1, TAGS));
    assert!(!is_newer(TAGS, 1));
    for tag in [1, 2, TAGS / 2, TAGS - 1, TAGS] {
        assert!(!is_newer(0, tag), "{tag}");
    }
}
