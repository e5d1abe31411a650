//! How every verifier names its checks: an enum in the order they are made, each with a stable short form.

/// Where passed checks are noted, by stable name.
pub(crate) type Trail<'a> = &'a mut dyn FnMut(&'static str);

/// Defines `Check`, one variant for each check in order: `Name = "kind.check", "what passes it";`.
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $about:literal;)*) => {
        /// One check of this verifier. The order of the variants is the order of the checks.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Check {
            $($(#[$doc])* $name,)*
        }

        impl Check {
            /// Every check, in order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Stable short form, the `check` of its rejections.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }

            /// What passes it.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about),* }
            }

            /// A refusal by this check.
            pub(crate) fn refuse(
                self,
                claim: impl Into<String>,
                expected: impl std::fmt::Display,
                got: impl std::fmt::Display,
            ) -> legation_core::Rejection {
                legation_core::Rejection::new(self.id(), claim).expected(expected).got(got)
            }
        }
    };
}
pub(crate) use checks;
