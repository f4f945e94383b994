// SPDX-License-Identifier: GPL-2.0
//! The combinations of page sizes that are tried, and the pages that stand for each.
//!
//! Every combination has honest pages, whose reported gVAs should suffice, and decoys, for which another
//! gVA is dropped, or one too few: they show that a translation would survive everything else.

use crate::rig::Rig;
use anyhow::Result;
use gvahint_vm::hints::{kind, Set};
use gvahint_vm::memory::Backing;
use gvahint_vm::tables::GuestPage;
use gvahint_vm::vm::{Config, Vm};
use gvahint_vm::{layout, LARGE, PAGE};

/// Small pages of a large one.
const PIECES: u64 = LARGE / PAGE;
/// Pages of the first VM, and leaves of the last.
const PAGES: u64 = 256;
const LEAVES: u64 = 14;
/// Order of a large page.
const LARGE_ORDER: u64 = 9;
/// A third gVA of the same data.
const ALIAS2: u64 = layout::ALIAS + (1 << 36);
/// Where nothing is mapped.
const NOWHERE: u64 = layout::ALIAS + (1 << 37);

/// A page to be aged.
pub struct Target {
    /// Guest-physical address whose frame is marked: the start of its EPT leaf.
    pub gpa: u64,
    /// What its set says.
    pub set: Set,
    /// gVAs that are cached before it is aged.
    pub cached: Vec<u64>,
    /// gVAs of which one is touched after that.
    pub touched: Vec<u64>,
}

/// One combination.
pub struct Cell {
    /// Size of the EPT's leaf.
    pub leaf: &'static str,
    /// Size of the guest's page.
    pub guest: &'static str,
    /// What is dropped.
    pub dropped: &'static str,
    /// Pages with the gVAs that should suffice.
    pub honest: Vec<Target>,
    /// Pages with others.
    pub decoys: Vec<Target>,
}

impl Cell {
    /// All sets of its pages.
    pub fn sets(&self) -> Vec<Set> {
        let all = self.honest.iter().chain(&self.decoys);
        all.map(|target| target.set.clone()).collect()
    }
}

/// A VM and the combinations that it shows.
pub struct Stage {
    /// How the VM is made.
    pub config: Config,
    /// Maps what its guest needs besides, and says what it shows.
    pub cells: fn(&mut Vm) -> Result<Vec<Cell>>,
}

fn set(page: u64, order: u64, gvas: &[u64]) -> Set {
    let gfn = layout::data(page) / PAGE;
    Set::new(gfn, order, kind::MAPPED, gvas.len() as u64, gvas)
}

const fn user(page: u64) -> u64 {
    layout::USER + page * PAGE
}

/// All that the verdict rests on, one VM after the other.
pub fn stages() -> Vec<Stage> {
    vec![
        Stage {
            config: Config::small(PAGES),
            cells: small,
        },
        Stage {
            config: Config {
                guest_page: GuestPage::Large,
                ..Config::small(3 * PIECES)
            },
            cells: large_guest_pages,
        },
        Stage {
            config: Config {
                backing: Backing::Huge,
                guest_page: GuestPage::Large,
                ..Config::small(LEAVES * PIECES)
            },
            cells: large_leaves,
        },
    ]
}

fn small(vm: &mut Vm) -> Result<Vec<Cell>> {
    let gvas = |page: u64| {
        [
            user(page),
            layout::ALIAS + page * PAGE,
            ALIAS2 + page * PAGE,
        ]
    };
    let one = |page: u64, gva: u64| Target {
        gpa: layout::data(page),
        set: set(page, 0, &[gva]),
        cached: vec![user(page)],
        touched: vec![user(page)],
    };
    let several = |page: u64, dropped: usize, touched: &[u64]| Target {
        gpa: layout::data(page),
        set: set(page, 0, &gvas(page)[..dropped]),
        cached: gvas(page).into(),
        touched: touched.to_vec(),
    };
    // Behind all of these, where nothing is ever touched.
    let other = |page: u64| user(PAGES - 1 - page % 32);
    vm.map(layout::ALIAS, 0, PAGES, GuestPage::Small)?;
    vm.map(ALIAS2, 0, PAGES, GuestPage::Small)?;
    Ok(vec![
        Cell {
            leaf: "4k",
            guest: "4k",
            dropped: "its gVA",
            honest: (0..64).map(|page| one(page, user(page))).collect(),
            decoys: (64..96).map(|page| one(page, other(page))).collect(),
        },
        Cell {
            leaf: "4k",
            guest: "4k",
            dropped: "its three gVAs",
            honest: (96..160)
                .map(|page| several(page, 3, &gvas(page)))
                .collect(),
            decoys: (160..192)
                .map(|page| several(page, 2, &gvas(page)[2..]))
                .collect(),
        },
    ])
}

/// The CPU keeps 4 KiB fragments of the guest's pages of 2 MiB.
fn large_guest_pages(_: &mut Vm) -> Result<Vec<Cell>> {
    let target = |page: u64, dropped: u64, cached: &[u64]| Target {
        gpa: layout::data(page),
        set: set(page, 0, &[user(dropped) | LARGE_ORDER]),
        cached: cached.iter().map(|page| user(*page)).collect(),
        touched: vec![user(page)],
    };
    // In the third guest page nothing is ever touched.
    let decoy = |page: u64| target(page, 2 * PIECES + page % PIECES, &[page]);
    let fragment = |page: u64, other: u64| target(page, other, &[page, other]);
    let second = |piece: u64| PIECES + piece;
    // All over the guest's page, the decoys between the others.
    let pieces = || (0..64).map(|i| 8 * i + i % 4);
    let between = || (0..16).map(|i| 32 * i + 4 + i % 4);
    Ok(vec![
        Cell {
            leaf: "4k",
            guest: "2m",
            dropped: "its gVA",
            honest: pieces().map(|page| target(page, page, &[page])).collect(),
            decoys: between().map(decoy).collect(),
        },
        Cell {
            leaf: "4k",
            guest: "2m",
            dropped: "another gVA of its guest page",
            honest: pieces()
                .map(|page| fragment(second(page), second((page + 259) % PIECES)))
                .collect(),
            decoys: between().map(|page| decoy(second(page))).collect(),
        },
    ])
}

/// The host backs the guest with huge pages; their other pieces are left alone after ageing.
fn large_leaves(vm: &mut Vm) -> Result<Vec<Cell>> {
    const PIECES_TOUCHED: [u64; 8] = [0, 1, 66, 139, 200, 300, 381, 511];
    let large = |leaf: u64, gva: u64| Target {
        gpa: layout::data(leaf * PIECES),
        set: set(leaf * PIECES, LARGE_ORDER, &[gva | LARGE_ORDER]),
        cached: PIECES_TOUCHED
            .map(|piece| user(leaf * PIECES + piece))
            .into(),
        // Not the one that is dropped, which is the first.
        touched: PIECES_TOUCHED[1..]
            .iter()
            .map(|piece| user(leaf * PIECES + piece))
            .collect(),
    };
    // The set claims 2 MiB, so that one gVA is dropped; the guest maps 4 KiB there.
    let one_piece = |leaf: u64, dropped: u64| Target {
        gpa: layout::data(leaf * PIECES),
        set: set(leaf * PIECES, LARGE_ORDER, &[dropped | LARGE_ORDER]),
        cached: vec![alias_gva(leaf)],
        touched: vec![alias_gva(leaf)],
    };
    let gvas = |leaf: u64| [user(leaf * PIECES), alias_gva(leaf), ALIAS2 + leaf * LARGE];
    let several = |leaf: u64, dropped: usize, touched: usize| {
        let large = gvas(leaf).map(|gva| gva | LARGE_ORDER);
        let [first, second, third] = gvas(leaf);
        // Of each mapping one piece, not the one that is dropped.
        let pieces = [first + 139 * PAGE, second + 300 * PAGE, third + 511 * PAGE];
        Target {
            gpa: layout::data(leaf * PIECES),
            set: set(leaf * PIECES, LARGE_ORDER, &large[..dropped]),
            cached: pieces.into(),
            touched: pieces[touched..].into(),
        }
    };
    let nowhere = |leaf: u64| NOWHERE + leaf * LARGE;
    Rig::collapse(vm, 0, LEAVES * PIECES)?;
    for leaf in 5..10 {
        let piece = 17 + 97 * (leaf - 5);
        vm.map(alias_gva(leaf), leaf * PIECES + piece, 1, GuestPage::Small)?;
    }
    for leaf in 10..LEAVES {
        for gva in &gvas(leaf)[1..] {
            vm.map(*gva, leaf * PIECES, PIECES, GuestPage::Large)?;
        }
    }
    Ok(vec![
        Cell {
            leaf: "2m",
            guest: "2m",
            dropped: "its first gVA",
            honest: (0..4)
                .map(|leaf| large(leaf, user(leaf * PIECES)))
                .collect(),
            decoys: vec![large(4, nowhere(4))],
        },
        Cell {
            leaf: "2m",
            guest: "4k",
            dropped: "its gVA",
            honest: (5..9)
                .map(|leaf| one_piece(leaf, alias_gva(leaf)))
                .collect(),
            decoys: vec![one_piece(9, nowhere(9))],
        },
        Cell {
            leaf: "2m",
            guest: "2m",
            dropped: "the first gVA of its three mappings",
            honest: (10..13).map(|leaf| several(leaf, 3, 0)).collect(),
            decoys: vec![several(13, 2, 2)],
        },
    ])
}

/// gVA at which a leaf, or one small piece of it, is mapped once more.
const fn alias_gva(leaf: u64) -> u64 {
    layout::ALIAS + leaf * LARGE
}
