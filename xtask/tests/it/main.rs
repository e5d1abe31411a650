//! `cargo xtask`, as it is called: on a copy of this workspace's manifests, which is then broken.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod tidy;
