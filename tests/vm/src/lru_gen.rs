// SPDX-License-Identifier: GPL-2.0
//! Generations of a memory cgroup's pages (MGLRU), through debugfs.

use crate::reclaim::Memcg;
use crate::sys;
use anyhow::{ensure, Context, Result};

const FILE: &str = "/sys/kernel/debug/lru_gen";
/// The first node: the machine has no other.
const NODE: u64 = 0;

/// The kernel's number of a cgroup, and its generations.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    id: u64,
    generations: Vec<Generation>,
}

/// One generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number; the youngest has the highest.
    pub seq: u64,
    /// Its pages, anonymous ones and those of files.
    pub pages: u64,
}

/// Generations of a group, the oldest first.
pub fn generations(group: &Memcg) -> Result<Vec<Generation>> {
    Ok(shown(group)?.generations)
}

/// Ages a group once: what its processes' page tables show as accessed goes to the youngest
/// generation, whose number is returned, and a new one begins above it.
pub fn age(group: &Memcg) -> Result<u64> {
    let shown = shown(group)?;
    let youngest = shown.generations.last().context("no generations")?.seq;
    // + group node generation can_swap force_scan: of anonymous memory too, past the Bloom filter.
    let command = format!("+ {} {NODE} {youngest} 1 1", shown.id);
    sys::write(FILE, &command)?;
    Ok(youngest)
}

fn shown(group: &Memcg) -> Result<Shown> {
    let name = group.name();
    parse(&sys::read(FILE)?, &name).with_context(|| format!("{FILE} does not show {name}"))
}

/// What the file says of one group on the first node: `memcg ID PATH`, `node N`, and lines of
/// `SEQ AGE_MS ANON FILE`. A group that was removed while it had pages is shown as number 0.
fn parse(text: &str, name: &str) -> Option<Shown> {
    let mut lines = text.lines().map(|line| line.split_whitespace());
    let id = lines.find_map(|mut words| {
        let of_group = words.next() == Some("memcg");
        let id = words.next()?;
        (of_group && id != "0" && words.next() == Some(name)).then_some(id)
    })?;
    let of_node = lines.take_while(|words| words.clone().next() != Some("memcg"));
    let mut generations = Vec::new();
    for words in of_node.skip(1) {
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let [seq, _, anon, file] = numbers[..] else {
            break;
        };
        let pages = anon + file;
        generations.push(Generation { seq, pages });
    }
    Some(Shown {
        id: id.parse().ok()?,
        generations,
    })
}

/// Switches MGLRU on or off for as long as the knobs live; off, the kernel has its two lists.
pub fn enable(knobs: &mut crate::knobs::Knobs, on: bool) -> Result<()> {
    let value = if on { "7" } else { "0" };
    knobs.set_file("/sys/kernel/mm/lru_gen/enabled", value)?;
    let now = sys::read("/sys/kernel/mm/lru_gen/enabled")?;
    ensure!((now != "0x0000") == on, "lru_gen stays {now}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{parse, Generation, Shown};

    const TEXT: &str = "\
memcg     1 /
 node     0
          0       1000         11           2
memcg     0 /guest
 node     0
          6        500          2           0
memcg    17 /guest
 node     0
          3       4000          5           6
          4         70          7           0
 node     1
          9          1          1           1
memcg    18 /guest2
 node     0
          8          1          1           1";

    // Fails if another group's or node's generations are taken, those of one of the same name that is
    // gone, or one is left out.
    #[test]
    fn only_the_group_and_the_first_node() {
        let generations = [(3, 11), (4, 7)].map(|(seq, pages)| Generation { seq, pages });
        let generations = generations.to_vec();
        let expected = Shown {
            id: 17,
            generations,
        };
        assert_eq!(parse(TEXT, "/guest"), Some(expected));
        assert_eq!(parse(TEXT, "/other"), None);
    }
}
