//! Deliberate defects of the simulator's own adapters, so that it can prove that it finds such things. The product has no door to
//! them.

macro_rules! defects {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// A deliberate defect.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Defect {
            $($(#[doc = $doc])* $name,)*
        }

        impl Defect {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

defects! {
    /// The store takes appends of any term, wherever they say they belong.
    StoreDoesNotFence = "store-does-not-fence",
    /// The store forgets its last append when it crashes, although it had acknowledged it.
    StoreLosesTail = "store-loses-tail",
    /// The manager answers before the journal has it.
    AnswersBeforeDurable = "answers-before-durable",
    /// The manager sends offers before the journal has them.
    OffersBeforeDurable = "offers-before-durable",
    /// The leader goes on answering after its term is over.
    LeadsAfterExpiry = "leads-after-expiry",
    /// The manager takes an append whose outcome is unknown for done.
    BelievesUnknown = "believes-unknown",
    /// The agent obeys offers of older terms than it obeyed.
    ObeysOlderTerms = "obeys-older-terms",
    /// Passports say twice the capacity that machines have.
    OvercountsCapacity = "overcounts-capacity",
    /// Reports are acknowledged although the journal could not take them.
    AcknowledgesUnwritten = "acknowledges-unwritten",
    /// A revocation is acknowledged and not applied.
    DropsRevocations = "drops-revocations",
    /// A custodian erases its share as soon as dealings are settled, when nobody has confirmed yet.
    ErasesTooEarly = "erases-too-early",
    /// A custodian confirms without having its share: a member counts that holds nothing.
    CountsAbsentMember = "counts-an-absent-member",
}

impl std::str::FromStr for Defect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::ALL.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ");
        Self::ALL.iter().copied().find(|d| d.name() == text).ok_or_else(|| format!("none of {}", all()))
    }
}
