//! Tests of the ledger, of prices and of the calibration of noise, through public doors, in one binary.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[cfg(feature = "mechanisms")]
mod calibration;
mod ledger;
mod plan;
mod unit;
