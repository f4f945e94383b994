// SPDX-License-Identifier: GPL-2.0

//! One macro for the enumerations that operators see by name.

/// What the examples below begin with: the first variant and an item by short names.
// Pieced together because `stringify` puts blanks around `::`.
macro_rules! example {
    ($Name:ident, $First:ident, $name:ident = $item:ident) => {
        concat! {
            "use ", module_path!(), "::", stringify!($Name), ";\n",
            "let first = ", stringify!($Name), "::", stringify!($First), ";\n",
            "let ", stringify!($name), " = ", stringify!($Name), "::", stringify!($item), ";",
        }
    };
}

/// Declares an enumeration whose variants have a number (from 0, without gaps)
/// and a name, with `ALL`, `name`, `parse`, `to_u8` and `from_u8`.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $(#[$first_meta:meta])* $First:ident = 0 => $first:literal,
            $( $(#[$vmeta:meta])* $Variant:ident = $number:literal => $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name {
            $(#[$first_meta])* $First,
            $( $(#[$vmeta])* $Variant, )+
        }

        impl $Name {
            /// All variants, by number.
            pub const ALL: &'static [Self] = &[ Self::$First, $( Self::$Variant, )+ ];

            /// The name that operators read and write.
            ///
            /// ```
            #[doc = example!($Name, $First, all = ALL)]
            #[doc = concat!("assert_eq!(first.name(), ", stringify!($first), ");")]
            /// // No two variants share one.
            /// assert_eq!(all.iter().filter(|v| v.name() == first.name()).count(), 1);
            /// ```
            pub const fn name(self) -> &'static str {
                match self {
                    Self::$First => $first,
                    $( Self::$Variant => $text, )+
                }
            }

            /// The variant of that name, exactly as spelt.
            ///
            /// ```
            #[doc = example!($Name, $First, parse = parse)]
            #[doc = concat!("assert_eq!(parse(b", stringify!($first), "), Some(first));")]
            /// // Nothing is trimmed: the newline that `echo` writes is up to the caller.
            /// assert_eq!(parse(&[first.name().as_bytes(), b"\n"].concat()), None);
            /// ```
            pub fn parse(text: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name().as_bytes() == text)
            }

            /// The variant's number, for keeping it in an atomic word.
            ///
            /// ```
            #[doc = example!($Name, $First, all = ALL)]
            /// assert_eq!(first.to_u8(), 0);
            /// // It is the place in `ALL`, too.
            /// assert_eq!(all.iter().position(|v| v.to_u8() == 1), Some(1));
            /// ```
            pub const fn to_u8(self) -> u8 {
                match self {
                    Self::$First => 0,
                    $( Self::$Variant => $number, )+
                }
            }

            /// The variant of that number.
            ///
            /// ```
            #[doc = example!($Name, $First, from_u8 = from_u8)]
            /// assert_eq!(from_u8(0), Some(first));
            /// assert_eq!(from_u8(u8::MAX), None);
            /// ```
            pub fn from_u8(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }
    };
}
