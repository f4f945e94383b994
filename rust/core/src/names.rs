// SPDX-License-Identifier: GPL-2.0

//! One macro for the enumerations that operators see by name.

/// Declares an enumeration whose variants have a number (from 0, without gaps)
/// and a name, with `ALL`, `name`, `parse`, `to_u8` and `from_u8`.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $( $(#[$vmeta:meta])* $Variant:ident = $number:literal => $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name {
            $( $(#[$vmeta])* $Variant, )+
        }

        impl $Name {
            /// All variants, by number.
            pub const ALL: &'static [Self] = &[ $( Self::$Variant, )+ ];

            /// The name that operators read and write.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$Variant => $text, )+
                }
            }

            /// The variant of that name, exactly as spelt.
            pub fn parse(text: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name().as_bytes() == text)
            }

            /// The variant's number, for keeping it in an atomic word.
            pub const fn to_u8(self) -> u8 {
                match self {
                    $( Self::$Variant => $number, )+
                }
            }

            /// The variant of that number.
            pub fn from_u8(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }
    };
}
