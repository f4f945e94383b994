// SPDX-License-Identifier: GPL-2.0

//! The numbers that an operator can set, their ranges and defaults.

use crate::cast;
use crate::policy::{Calibration, LinearAlias};
use crate::sync::{AtomicU64, Ordering};

named_enum! {
    /// The parameters that are numbers, by their names in sysfs.
    ///
    /// ```
    /// use gvahint_core::policy::{Tunable, Tunables};
    /// // A write to the file of that name.
    /// let (which, value) = (Tunable::parse(b"lease_ms").unwrap(), 5_000);
    /// let mut now = Tunables::DEFAULT;
    /// now.set(which, value).unwrap();
    /// assert_eq!(now.lease_ms, 5_000);
    /// ```
    pub enum Tunable {
        /// Aged pages per kick under `batched`: 1..=4096.
        BatchPages = 0 => "batch_pages",
        /// Longest wait of a vCPU that never exits, in ms: 0..=1000, 0 = never kick for it.
        MaxDelayMs = 1 => "max_delay_ms",
        /// Age from which a hint no longer covers, in ms: 100..=600000.
        HintMaxAgeMs = 2 => "hint_max_age_ms",
        /// Silence after which a VM's hints no longer cover, in ms: 100..=600000.
        LeaseMs = 3 => "lease_ms",
        /// gVAs that one VM entry flushes singly: 1..=65536; no more than its log holds.
        MaxGvasPerEntry = 4 => "max_gvas_per_entry",
        /// Slots of a VM's log: 256..=65536, a power of two; used at the next HELLO.
        LogEntries = 5 => "log_entries",
        /// Memory per VM in bytes: 0 = in proportion to the VM's, else at least 65536.
        MaxBytesPerVm = 6 => "max_bytes_per_vm",
    }
}

impl Tunable {
    /// Whether the parameter takes `value`, whatever the others are.
    ///
    /// ```
    /// use gvahint_core::policy::Tunable;
    /// assert!(!Tunable::LogEntries.accepts(1000)); // no power of two
    /// // 0 means "in proportion"; what is set has to be worth it.
    /// assert!(Tunable::MaxBytesPerVm.accepts(0));
    /// assert!(!Tunable::MaxBytesPerVm.accepts(4096));
    /// ```
    pub fn accepts(self, value: u64) -> bool {
        match self {
            Tunable::BatchPages => (1..=4096).contains(&value),
            Tunable::MaxDelayMs => value <= 1000,
            Tunable::HintMaxAgeMs | Tunable::LeaseMs => (100..=600_000).contains(&value),
            Tunable::MaxGvasPerEntry => (1..=65_536).contains(&value),
            Tunable::LogEntries => (256..=65_536).contains(&value) && value.is_power_of_two(),
            Tunable::MaxBytesPerVm => value == 0 || value >= 65_536,
        }
    }
}

/// A value that its parameter does not take.
///
/// ```
/// use gvahint_core::policy::{OutOfRange, Tunable, Tunables};
/// let mut now = Tunables::DEFAULT;
/// assert_eq!(now.set(Tunable::LogEntries, 1000), Err(OutOfRange)); // no power of two
/// assert_eq!(now, Tunables::DEFAULT);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// One consistent reading of the parameters.
///
/// ```
/// use gvahint_core::policy::Tunables;
/// let Tunables { lease_ms, hint_max_age_ms, .. } = Tunables::DEFAULT;
/// // A guest that falls silent is noticed before its hints are too old.
/// assert!(lease_ms < hint_max_age_ms);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// See [`Tunable::BatchPages`].
    pub batch_pages: u32,
    /// See [`Tunable::MaxDelayMs`].
    pub max_delay_ms: u32,
    /// Whether the direct map's gVAs are dropped too.
    pub linear_alias: LinearAlias,
    /// Whether hints work on this host's CPUs.
    pub calibration: Calibration,
    /// See [`Tunable::HintMaxAgeMs`].
    pub hint_max_age_ms: u32,
    /// See [`Tunable::LeaseMs`].
    pub lease_ms: u32,
    /// See [`Tunable::MaxGvasPerEntry`].
    pub max_gvas_per_entry: u32,
    /// See [`Tunable::LogEntries`].
    pub log_entries: u32,
    /// See [`Tunable::MaxBytesPerVm`].
    pub max_bytes_per_vm: u64,
}

impl Tunables {
    /// What holds when nobody sets anything.
    pub const DEFAULT: Self = Self {
        batch_pages: 64,
        max_delay_ms: 10,
        linear_alias: LinearAlias::Always,
        calibration: Calibration::Uncalibrated,
        hint_max_age_ms: 60_000,
        lease_ms: 10_000,
        max_gvas_per_entry: 512,
        log_entries: 4096,
        max_bytes_per_vm: 0,
    };

    /// One parameter's value.
    ///
    /// ```
    /// use gvahint_core::policy::{Tunable, Tunables};
    /// // All of the defaults are values that could be set.
    /// let d = Tunables::DEFAULT;
    /// assert!(Tunable::ALL.iter().all(|which| which.accepts(d.get(*which))));
    /// ```
    pub fn get(&self, which: Tunable) -> u64 {
        match which {
            Tunable::BatchPages => u64::from(self.batch_pages),
            Tunable::MaxDelayMs => u64::from(self.max_delay_ms),
            Tunable::HintMaxAgeMs => u64::from(self.hint_max_age_ms),
            Tunable::LeaseMs => u64::from(self.lease_ms),
            Tunable::MaxGvasPerEntry => u64::from(self.max_gvas_per_entry),
            Tunable::LogEntries => u64::from(self.log_entries),
            Tunable::MaxBytesPerVm => self.max_bytes_per_vm,
        }
    }

    /// Sets one parameter, or changes nothing.
    ///
    /// ```
    /// use gvahint_core::policy::{OutOfRange, Tunable, Tunables};
    /// let mut now = Tunables::DEFAULT;
    /// assert_eq!(now.set(Tunable::MaxDelayMs, 0), Ok(())); // never kick for it
    /// assert_eq!(now.set(Tunable::BatchPages, 0), Err(OutOfRange));
    /// assert_eq!((now.max_delay_ms, now.batch_pages), (0, 64));
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the parameter does not take the value.
    pub fn set(&mut self, which: Tunable, value: u64) -> Result<(), OutOfRange> {
        if !which.accepts(value) {
            return Err(OutOfRange);
        }
        // Each range above but the last one's ends below 2^32.
        let narrow = cast::low_u32(value);
        match which {
            Tunable::BatchPages => self.batch_pages = narrow,
            Tunable::MaxDelayMs => self.max_delay_ms = narrow,
            Tunable::HintMaxAgeMs => self.hint_max_age_ms = narrow,
            Tunable::LeaseMs => self.lease_ms = narrow,
            Tunable::MaxGvasPerEntry => self.max_gvas_per_entry = narrow,
            Tunable::LogEntries => self.log_entries = narrow,
            Tunable::MaxBytesPerVm => self.max_bytes_per_vm = value,
        }
        Ok(())
    }

    /// Bytes that a VM with `pages` 4 KiB pages of memory may hold: the limit
    /// that was set, or 0.25 % of its memory + 1 MiB.
    ///
    /// ```
    /// use gvahint_core::policy::Tunables;
    /// // 1 GiB of memory: 2.5 MiB for hints, and 1 MiB to begin with.
    /// let bytes = Tunables::DEFAULT.byte_limit(1 << 18);
    /// assert_eq!(bytes, (1 << 30) / 400 + (1 << 20));
    /// let limited = Tunables { max_bytes_per_vm: 65_536, ..Tunables::DEFAULT };
    /// assert_eq!(limited.byte_limit(1 << 18), 65_536);
    /// ```
    pub fn byte_limit(&self, pages: u64) -> u64 {
        if self.max_bytes_per_vm == 0 {
            (pages.saturating_mul(256) / 25).saturating_add(1 << 20)
        } else {
            self.max_bytes_per_vm
        }
    }
}

/// [`Tunables`] for readers in atomic context: each parameter is read whole,
/// two parameters that change at once may be seen one after the other.
///
/// ```
/// use gvahint_core::policy::{Tunable, TunablesCell};
/// static GLOBAL: TunablesCell = TunablesCell::new();
/// let before = GLOBAL.load();
/// GLOBAL.set(Tunable::BatchPages, 128).unwrap();
/// // A reading stays what it was.
/// assert_eq!((before.batch_pages, GLOBAL.load().batch_pages), (64, 128));
/// ```
#[derive(Debug)]
pub struct TunablesCell {
    numbers: [AtomicU64; Tunable::ALL.len()],
    linear_alias: AtomicU64,
    calibration: AtomicU64,
}

impl Default for TunablesCell {
    fn default() -> Self {
        Self::new()
    }
}

impl TunablesCell {
    /// The defaults.
    ///
    /// ```
    /// use gvahint_core::policy::{Tunables, TunablesCell};
    /// assert_eq!(TunablesCell::new().load(), Tunables::DEFAULT);
    /// ```
    pub const fn new() -> Self {
        const D: Tunables = Tunables::DEFAULT;
        Self {
            numbers: [
                AtomicU64::new(cast::u64_from_u32(D.batch_pages)),
                AtomicU64::new(cast::u64_from_u32(D.max_delay_ms)),
                AtomicU64::new(cast::u64_from_u32(D.hint_max_age_ms)),
                AtomicU64::new(cast::u64_from_u32(D.lease_ms)),
                AtomicU64::new(cast::u64_from_u32(D.max_gvas_per_entry)),
                AtomicU64::new(cast::u64_from_u32(D.log_entries)),
                AtomicU64::new(D.max_bytes_per_vm),
            ],
            linear_alias: AtomicU64::new(0),
            calibration: AtomicU64::new(0),
        }
    }

    /// The present values.
    ///
    /// ```
    /// use gvahint_core::policy::{Tunable, TunablesCell};
    /// let cell = TunablesCell::new();
    /// cell.set(Tunable::MaxBytesPerVm, 1 << 40).unwrap(); // more than 32 bits
    /// assert_eq!(cell.load().max_bytes_per_vm, 1 << 40);
    /// ```
    pub fn load(&self) -> Tunables {
        let number = |which: Tunable| {
            self.numbers
                .get(usize::from(which.to_u8()))
                .map_or(0, |cell| cell.load(Ordering::Relaxed))
        };
        let narrow = |which| cast::low_u32(number(which));
        let choice = |cell: &AtomicU64| cast::low_u8(cell.load(Ordering::Relaxed));
        Tunables {
            batch_pages: narrow(Tunable::BatchPages),
            max_delay_ms: narrow(Tunable::MaxDelayMs),
            linear_alias: LinearAlias::from_u8(choice(&self.linear_alias))
                .unwrap_or(LinearAlias::Never),
            calibration: Calibration::from_u8(choice(&self.calibration))
                .unwrap_or(Calibration::FailedInvept),
            hint_max_age_ms: narrow(Tunable::HintMaxAgeMs),
            lease_ms: narrow(Tunable::LeaseMs),
            max_gvas_per_entry: narrow(Tunable::MaxGvasPerEntry),
            log_entries: narrow(Tunable::LogEntries),
            max_bytes_per_vm: number(Tunable::MaxBytesPerVm),
        }
    }

    /// Sets one number, or changes nothing.
    ///
    /// ```
    /// use gvahint_core::policy::{OutOfRange, Tunable, TunablesCell};
    /// let cell = TunablesCell::new();
    /// cell.set(Tunable::LogEntries, 256).unwrap();
    /// // A drain takes the smaller of the two.
    /// cell.set(Tunable::MaxGvasPerEntry, 4096).unwrap();
    /// assert_eq!(cell.set(Tunable::LogEntries, 128), Err(OutOfRange));
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the parameter does not take the value.
    pub fn set(&self, which: Tunable, value: u64) -> Result<(), OutOfRange> {
        if !which.accepts(value) {
            return Err(OutOfRange);
        }
        if let Some(cell) = self.numbers.get(usize::from(which.to_u8())) {
            cell.store(value, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sets when the direct map's gVAs are dropped.
    ///
    /// ```
    /// use gvahint_core::policy::{LinearAlias, TunablesCell};
    /// let cell = TunablesCell::new();
    /// cell.set_linear_alias(LinearAlias::Always);
    /// assert_eq!(cell.load().linear_alias, LinearAlias::Always);
    /// ```
    pub fn set_linear_alias(&self, value: LinearAlias) {
        self.linear_alias
            .store(u64::from(value.to_u8()), Ordering::Relaxed);
    }

    /// Says whether hints work on this host's CPUs.
    ///
    /// ```
    /// use gvahint_core::policy::{Calibration, TunablesCell};
    /// let cell = TunablesCell::new();
    /// cell.set_calibration(Calibration::FailedInvept);
    /// assert_eq!(cell.load().calibration, Calibration::FailedInvept);
    /// ```
    pub fn set_calibration(&self, value: Calibration) {
        self.calibration
            .store(u64::from(value.to_u8()), Ordering::Relaxed);
    }
}
