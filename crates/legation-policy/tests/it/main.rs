//! Policies and reference values through their public doors.
#![expect(clippy::unwrap_used, reason = "tests")]

mod docs;
mod explaining;
mod loading;
mod placing;
mod properties;
mod references;
mod running;
mod speed;
mod verdicts;
mod world;
