//! Trees to typed values: one [`Decode`] for each type of the API, most of them written by [`object!`] and
//! [`names!`].
//!
//! Decoding never stops at the first mistake. A value that cannot be read is reported, replaced by its default and
//! remembered, and every later finding about it is dropped: one mistake, one diagnostic (see [`Cx`]).

mod at;
mod context;
mod nearest;
mod scalars;
mod structures;
mod values;

pub(crate) use at::At;
pub(crate) use context::Cx;
pub(crate) use nearest::nearest;
pub(crate) use values::written;

/// A type that can be read from a node.
pub(crate) trait Decode: Default {
    /// Reads the node; reports what is wrong with it and returns what could be read.
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self;
}

/// A message of the API: a struct with its fields' names as written in YAML.
///
/// `required` fields are those the schema requires. After the fields may follow `plus { … }` for fields that are
/// filled by other means, `ignores […]` for names that are known and not read (`ignores anything`: all of them),
/// and `extended_by FUNCTION` for names outside the API: the function reads them and returns whether it knew it.
macro_rules! object {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty = $key:literal $($required:ident)? , )*
        }
        $( plus { $( $(#[$plus_meta:meta])* $plus:ident : $plus_type:ty , )* } )?
        $( ignores $ignored:tt )?
        $( extended_by $extension:path )?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $( $(#[$field_meta])* $vis $field: $type, )*
            $($( $(#[$plus_meta])* $vis $plus: $plus_type, )*)?
        }

        impl $crate::decode::Decode for $name {
            fn decode(at: &$crate::decode::At<'_>, cx: &mut $crate::decode::Cx) -> Self {
                const FIELDS: &[&str] = &[$($key),*];
                const REQUIRED: &[&str] = &[$( $( { const _: &str = stringify!($required); $key }, )? )*];
                let mut this = Self::default();
                let Some(entries) = cx.entries(at) else { return this };
                for entry in entries {
                    let key = &*entry.key;
                    let at = at.entry(entry);
                    if entry.value.is_null() {
                        continue;
                    }
                    match key {
                        $( $key => this.$field = $crate::decode::Decode::decode(&at, cx), )*
                        $( _ if $crate::decode::is_ignored!(key, $ignored) => {} )?
                        $( _ if $extension(&mut this, key, &at, cx) => {} )?
                        _ => cx.unknown_field(&at, key, FIELDS),
                    }
                }
                cx.require(at, REQUIRED);
                this
            }
        }
    };
}

/// Whether a key is among the names that an [`object!`] knows and does not read.
macro_rules! is_ignored {
    ($key:expr, anything) => {
        true
    };
    ($key:expr, [$($name:literal),* $(,)?]) => {
        matches!($key, $($name)|*)
    };
}

/// An enumeration of the API, with the name of each value. Numbers are refused: Istio's schema refuses them.
macro_rules! names {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal , )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// The name as the API writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(at: &$crate::decode::At<'_>, cx: &mut $crate::decode::Cx) -> Self {
                cx.name(at, &[$( ($text, Self::$variant) ),*])
            }
        }
    };
}

pub(crate) use {is_ignored, names, object};
