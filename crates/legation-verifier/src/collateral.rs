//! Collateral: what vendors publish about machines, kept fresh beside the verifier.
//!
//! Fetching never judges evidence and judging never fetches: a verifier reads a snapshot of the shelf, and the [`Keeper`]
//! replaces that snapshot in the background.
//!
//! An item gets in only when
//! 1. `collateral.name`: its name is one of the forms of [`CollateralName`];
//! 2. `collateral.size`: it has at most [`COLLATERAL_MAX`](legation_core::claims::COLLATERAL_MAX) bytes;
//! 3. `collateral.form`: it parses as what its name says;
//! 4. `collateral.subject`: it is about what its name says (product, FMSPC, kind of machine, authority);
//! 5. `collateral.signature`: the vendor signed every part, under the root that is pinned for the name;
//! 6. `collateral.future`: no part is issued later than now, but for [`FUTURE_SECONDS_MAX`];
//! 7. `collateral.older`: no part is older than that part of the item it replaces.
//!
//! Outage: an item past its next update stays on the shelf, is shown as stale with the day the grace ends, and the judge
//! decides. Nothing is ever dropped because a vendor does not answer.

mod check;
mod date;
mod endpoint;
mod intel;
mod keeper;
mod name;
mod source;
mod state;
mod store;

pub use check::{Checker, Dates, FUTURE_SECONDS_MAX, Part};
pub use keeper::{Keeper, KeeperConfig, Round, WANTED_MAX, Wants};
pub use name::{CollateralName, IntelTee, PckAuthority};
pub use source::{SourceConfig, SourceKind};
pub use state::{ItemState, ItemStatus};
pub(crate) use store::read_bounded;
pub use store::{ITEMS_MAX, Kept, Put, Store, StoreError};
