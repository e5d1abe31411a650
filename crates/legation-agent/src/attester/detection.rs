//! Which attester this machine has, and which is taken.
//!
//! `kind = "auto"` takes the first of these that works, in this order; a kind by name takes that one or none.
//!
//! | kind | found by |
//! |---|---|
//! | `sev-snp` | the provider of configfs-tsm is `sev_guest` |
//! | `tdx` | the provider of configfs-tsm is `tdx_guest` |
//! | `nitro` | `/dev/nsm` is there, and this program has feature `nitro` |
//! | `tpm` | the device of `[tpm]`, or `/dev/tpmrm0`, is there, and this program has feature `tpm` |
//! | `dev-snp` | `chip` is set in `[development]` |
//! | `dev-tpm` | `tpm` is set in `[development]`, and this program has feature `tpm` |
//!
//! What was found, and why each of the others was not taken, is logged, is the error of an agent that finds nothing, and is what
//! `legation agent detect` prints.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use legation_core::claims::{TeeKind, TpmKey};
use serde::{Serialize, Serializer};

#[cfg(feature = "tpm")]
use super::tpm;
use super::{
    Attester, AttesterError, DevelopmentAttester,
    configfs::{Configfs, TSM_REPORT, Tsm},
    own_image,
    sev_snp::{self, SnpAttester},
    tdx::{self, TdxAttester},
};
use crate::config::{AgentConfig, Development, Tcti, TpmConfig};

/// Kinds that an agent can attest with, in the order in which they are tried.
pub const ORDER: [TeeKind; 6] =
    [TeeKind::SevSnp, TeeKind::Tdx, TeeKind::Nitro, TeeKind::Tpm, TeeKind::DevSnp, TeeKind::DevTpm];

/// Where hardware shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// configfs-tsm.
    pub tsm: PathBuf,
    /// Security module of a Nitro enclave.
    pub nsm: PathBuf,
    /// TPM, with the kernel's resource manager, where none is configured.
    pub tpm: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { tsm: TSM_REPORT.into(), nsm: "/dev/nsm".into(), tpm: "/dev/tpmrm0".into() }
    }
}

/// What was found of one kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which.
    #[serde(serialize_with = "named")]
    pub kind: TeeKind,
    /// Where it was looked for.
    pub place: String,
    /// Whether it is there.
    pub found: bool,
    /// Whether this program can attest with it.
    pub usable: bool,
    /// Why it is not there or not usable; else what was seen.
    pub why: String,
}

/// What this machine could attest with, and what is taken of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Detection {
    /// What the configuration asks for: `auto`, or a kind.
    pub asked: String,
    /// What is taken.
    #[serde(serialize_with = "perhaps_named")]
    pub chosen: Option<TeeKind>,
    /// Everything that was looked for, in the order in which it is tried.
    pub findings: Vec<Finding>,
}

fn named<S: Serializer>(kind: &TeeKind, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(kind.name())
}

fn perhaps_named<S: Serializer>(kind: &Option<TeeKind>, s: S) -> Result<S::Ok, S::Error> {
    kind.map(TeeKind::name).serialize(s)
}

impl Detection {
    /// Looks at this machine.
    pub fn of(config: &AgentConfig) -> Self {
        Self::at(config, &Places::default())
    }

    /// Looks at these places.
    pub fn at(config: &AgentConfig, places: &Places) -> Self {
        let provider = provider(&places.tsm);
        let findings: Vec<_> = ORDER.into_iter().map(|kind| find(kind, config, places, &provider)).collect();
        let wanted = |finding: &&Finding| finding.usable && config.attester.kind.admits(finding.kind);
        let chosen = findings.iter().find(wanted).map(|finding| finding.kind);
        Self { asked: config.attester.kind.to_string(), chosen, findings }
    }
}

/// What configfs-tsm says of itself, or why it says nothing.
fn provider(tsm: &Path) -> Result<String, (bool, String)> {
    if !tsm.is_dir() {
        let why =
            "not there: no SEV-SNP or TDX guest, a kernel before 6.7, or its driver (sev-guest, tdx-guest) not loaded";
        return Err((false, why.to_owned()));
    }
    Tsm::new(Configfs::at(tsm)).provider().map_err(|error| (true, format!("there, but {error}")))
}

fn find(kind: TeeKind, config: &AgentConfig, places: &Places, provider: &Result<String, (bool, String)>) -> Finding {
    let finding = |place: String, found, usable, why: &str| Finding { kind, place, found, usable, why: why.to_owned() };
    let built = |has: bool, feature: &str| {
        if has { String::new() } else { format!("there, but this program was built without feature `{feature}`") }
    };
    match kind {
        TeeKind::SevSnp | TeeKind::Tdx => {
            let wanted = if kind == TeeKind::SevSnp { sev_snp::PROVIDER } else { tdx::PROVIDER };
            let place = places.tsm.display().to_string();
            match provider {
                Ok(name) if name == wanted => finding(place, true, true, &format!("provider is {name}")),
                Ok(name) => finding(place, false, false, &format!("provider is {name}, not {wanted}")),
                Err((there, why)) => finding(place, *there, false, why),
            }
        }
        TeeKind::Nitro => {
            let (place, there) = (places.nsm.display().to_string(), places.nsm.exists());
            let lacks = built(cfg!(feature = "nitro"), "nitro");
            match (there, lacks.is_empty()) {
                (false, _) => finding(place, false, false, "not there: no Nitro enclave"),
                (true, usable) => finding(place, true, usable, if usable { "there" } else { &lacks }),
            }
        }
        TeeKind::Tpm => {
            let tcti = tpm_config(config, places).tcti;
            let there = match &tcti {
                Tcti::Device(device) => device.exists(),
                // That it answers is seen when it is opened.
                Tcti::Swtpm { .. } => true,
            };
            let lacks = built(cfg!(feature = "tpm"), "tpm");
            match (there, lacks.is_empty()) {
                (false, _) => finding(tcti.to_string(), false, false, "not there: no TPM, or its driver not loaded"),
                (true, usable) => finding(tcti.to_string(), true, usable, if usable { "there" } else { &lacks }),
            }
        }
        TeeKind::DevSnp => match &config.development {
            Some(Development::Chip(file)) => finding(file.display().to_string(), true, true, "configured"),
            _ => finding(
                "chip in [development]".to_owned(),
                false,
                false,
                "not configured: set `chip` in `[development]` to attest for development, which never proves confidentiality",
            ),
        },
        _ => match &config.development {
            Some(Development::Tpm(emulator)) => {
                let lacks = built(cfg!(feature = "tpm"), "tpm");
                let usable = lacks.is_empty();
                finding(emulator.tcti.to_string(), true, usable, if usable { "configured" } else { &lacks })
            }
            _ => finding("tpm in [development]".to_owned(), false, false, "not configured"),
        },
    }
}

fn tpm_config(config: &AgentConfig, places: &Places) -> TpmConfig {
    let default = || TpmConfig {
        tcti: Tcti::Device(places.tpm.clone()),
        registers: Vec::new(),
        key: TpmKey::default(),
        chain: None,
    };
    config.tpm.clone().unwrap_or_else(default)
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asked for {}, ", self.asked)?;
        match self.chosen {
            Some(kind) => write!(f, "taken: {kind}")?,
            None => f.write_str("none can be used")?,
        }
        for Finding { kind, place, why, .. } in &self.findings {
            write!(f, "\n  {kind:<8} {place}: {why}")?;
        }
        Ok(())
    }
}

/// The attester of this machine under `config`.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn choose(config: &AgentConfig) -> Result<Arc<dyn Attester>, AttesterError> {
    choose_at(config, &Places::default())
}

/// The attester at these places under `config`. Only the kind that [`Detection`] took is opened: when it fails, the next is not
/// tried, since it would prove less.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn choose_at(config: &AgentConfig, places: &Places) -> Result<Arc<dyn Attester>, AttesterError> {
    let detection = Detection::at(config, places);
    tracing::info!(%detection, "looked for something to attest with");
    let tsm = || Configfs::at(&places.tsm);
    match (detection.chosen, &config.development) {
        (Some(TeeKind::SevSnp), _) => {
            Ok(Arc::new(SnpAttester::new(tsm(), own_image()?, config.attester.vcek.as_deref())?))
        }
        (Some(TeeKind::Tdx), _) => Ok(Arc::new(TdxAttester::new(tsm(), own_image()?))),
        #[cfg(feature = "nitro")]
        (Some(TeeKind::Nitro), _) => Ok(Arc::new(super::nitro::NitroAttester::new(super::nitro::Device, own_image()?))),
        #[cfg(feature = "tpm")]
        (Some(TeeKind::Tpm), _) => Ok(Arc::new(tpm::TpmAttester::open(&tpm_config(config, places), false)?)),
        (Some(TeeKind::DevSnp), Some(Development::Chip(file))) => Ok(Arc::new(DevelopmentAttester::open(file)?)),
        #[cfg(feature = "tpm")]
        (Some(TeeKind::DevTpm), Some(Development::Tpm(emulator))) => {
            Ok(Arc::new(tpm::TpmAttester::open(emulator, true)?))
        }
        _ => Err(AttesterError::None(Box::new(detection))),
    }
}
