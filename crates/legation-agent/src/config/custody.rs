//! `[custody]`: what makes this agent a custodian.
//!
//! ```toml
//! [custody]                                 # optional, with `listen`: helps to keep a swarm key; measured, and public in its passport
//! swarm = "main"                            # which
//! alone = true                              # optional: whether it does nothing else; as it is, it runs modules beside
//! ```

use legation_core::{Digest, SwarmName, claims::Custody};

use super::{ConfigError, Section};

/// Which swarm key an agent helps to keep, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustodyConfig {
    /// Which.
    pub swarm: SwarmName,
    /// Whether it runs no modules.
    pub alone: bool,
}

impl CustodyConfig {
    /// What is measured of it. It judges nobody's evidence, but relies on verifiers: the digest of its anchors is that of nothing.
    pub fn claim(&self) -> Custody {
        Custody { swarm: self.swarm.clone(), alone: self.alone, anchors: Digest::of(&[]) }
    }
}

/// Reads the section, if it is there.
pub(super) fn read(mut section: Section<'_>) -> Result<Option<CustodyConfig>, ConfigError> {
    if !section.present() {
        return Ok(None);
    }
    let name = "the name of a swarm key: 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit";
    let swarm = section.text("swarm", name, |text| SwarmName::new(text).map_err(|error| error.to_string()))?;
    let alone = section.flag("alone")?.unwrap_or(false);
    section.end(&["swarm", "alone"])?;
    Ok(Some(CustodyConfig { swarm, alone }))
}
