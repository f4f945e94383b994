// SPDX-License-Identifier: GPL-2.0

//! Files of one value, as both modules show and take them.

use core::fmt;

/// Text that fits into a file's page, or an error.
///
/// ```
/// use core::fmt::Write;
/// use gvahint_core::text::Page;
/// let mut bytes = [0; 4];
/// let mut page = Page::new(&mut bytes);
/// assert!(write!(page, "123").is_ok());
/// // What does not fit as a whole is not begun.
/// assert!(write!(page, "45").is_err());
/// assert_eq!(page.used(), 3);
/// ```
#[derive(Debug)]
pub struct Page<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl<'a> Page<'a> {
    /// An empty one.
    ///
    /// ```
    /// assert_eq!(gvahint_core::text::Page::new(&mut [b'x']).used(), 0);
    /// ```
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    /// Bytes written.
    ///
    /// ```
    /// use core::fmt::Write;
    /// let mut bytes = [0; 8];
    /// let mut page = gvahint_core::text::Page::new(&mut bytes);
    /// page.write_str("live\n").unwrap();
    /// assert_eq!(page.used(), 5);
    /// ```
    pub fn used(&self) -> usize {
        self.used
    }
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used.checked_add(text.len()).ok_or(fmt::Error)?;
        let room = self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Digits and nothing else. (Not `str::parse`: its plain arithmetic leaves
/// panics behind.)
///
/// ```
/// use gvahint_core::text::decimal;
/// assert_eq!(decimal(b"0512"), Some(512));
/// assert_eq!(decimal(b"+1"), None);
/// assert_eq!(decimal(b""), None);
/// assert_eq!(decimal(b"18446744073709551616"), None);
/// ```
pub fn decimal(text: &[u8]) -> Option<u64> {
    let first = text.first()?;
    let digit = |byte: &u8| byte.checked_sub(b'0').filter(|digit| *digit < 10);
    let mut rest = text.iter().skip(1);
    rest.try_fold(u64::from(digit(first)?), |value, byte| {
        value.checked_mul(10)?.checked_add(u64::from(digit(byte)?))
    })
}
