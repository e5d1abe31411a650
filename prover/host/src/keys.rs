//! Keys of the proof system: made once for its parameters, whatever the program, and kept in a folder. There is nothing secret in
//! them and no ceremony behind them: whoever makes them with the same release and parameters gets the same.

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use legation_core::Digest;
use openvm_sdk::{
    Sdk,
    config::{AggregationSystemParams, AppConfig},
    keygen::AppProvingKey,
};
use openvm_sdk_config::SdkVmConfig;
use openvm_stark_sdk::config::app_params_with_100_bits_security;

/// Release of the proof system.
pub const OPENVM: &str = "2.0.2";
/// Release of the interpreter in the program.
pub const WASMI: &str = "2.0.0";
/// Logarithm of the height of the stacked trace where none is said. A commitment is filled up to a multiple of it, so that 24 is
/// slower; under 20 proofs are half as large again (measured).
pub const DEFAULT_STACKED_HEIGHT: usize = 22;
/// Those that may be chosen. Lower takes less memory for a segment, and cuts long executions into more segments.
pub const STACKED_HEIGHTS: RangeInclusive<usize> = 20..=24;

/// Where keys are kept.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    folder: PathBuf,
}

impl KeyFiles {
    /// In this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The proving key's file: large, and only read by provers.
    pub fn proving(&self) -> PathBuf {
        self.folder.join("proving.key")
    }

    /// The verifying key's file, which is published with the program.
    pub fn verifying(&self) -> PathBuf {
        self.folder.join("verifying.key")
    }

    /// Where it is kept for which parameters they were made.
    pub fn height(&self) -> PathBuf {
        self.folder.join("stacked-height")
    }

    /// Makes keys, unless keys of these parameters are here. Says whether it made them.
    ///
    /// # Errors
    /// The height is out of range, or the files cannot be written.
    pub fn make(&self, stacked_height: usize) -> Result<bool> {
        ensure!(
            STACKED_HEIGHTS.contains(&stacked_height),
            "a stacked height is {} to {}",
            STACKED_HEIGHTS.start(),
            STACKED_HEIGHTS.end()
        );
        let parameters = format!("{stacked_height} {OPENVM}\n");
        let here = fs::read_to_string(self.height()).is_ok_and(|text| text == parameters);
        if here && self.proving().exists() && self.verifying().exists() {
            return Ok(false);
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("failed to create {}", self.folder.display()))?;
        let mut config = AppConfig::riscv32(app_params_with_100_bits_security(stacked_height));
        // The program hashes all that it reads and writes: a block is one instruction with it, and thousands without.
        config.app_vm_config.sha2 = Some(Default::default());
        let sdk = Sdk::new(config, AggregationSystemParams::default()).context("failed to set the proof system up")?;
        let verifying = sdk.app_vk();
        write(&self.proving(), &bitcode::serialize(sdk.app_pk()).context("failed to write the proving key")?)?;
        write(&self.verifying(), &bitcode::serialize(&verifying).context("failed to write the verifying key")?)?;
        // Last: it says that the others are whole.
        write(&self.height(), parameters.as_bytes())?;
        Ok(true)
    }

    /// The parameters of the keys that are here.
    ///
    /// # Errors
    /// There are none, or they are another release's.
    pub fn stacked_height(&self) -> Result<usize> {
        let advice = || format!("no keys in {}: run `legation-prover keygen --keys {0}`", self.folder.display());
        let text = fs::read_to_string(self.height()).with_context(advice)?;
        let (height, release) = text.trim().split_once(' ').with_context(advice)?;
        ensure!(release == OPENVM, "the keys are of release {release}, this is {OPENVM}: make new ones");
        height.parse().with_context(advice)
    }

    /// The verifying key.
    ///
    /// # Errors
    /// It is not here.
    pub fn verifying_key(&self) -> Result<Vec<u8>> {
        let path = self.verifying();
        fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    /// The verifying key's name.
    ///
    /// # Errors
    /// It is not here.
    pub fn name(&self) -> Result<Digest> {
        self.verifying_key().map(|key| Digest::of(&key))
    }

    /// The proof system, ready to prove in segments that it reckons to take at most `segment_memory` bytes.
    pub(crate) fn load(&self, segment_memory: usize) -> Result<Sdk> {
        self.stacked_height()?;
        let path = self.proving();
        let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let mut key: AppProvingKey<SdkVmConfig> =
            bitcode::deserialize(&bytes).with_context(|| format!("{} is no proving key", path.display()))?;
        // No part of the key: it says where executions are cut, and a proof is good wherever that is.
        let vm = Arc::get_mut(&mut key.app_vm_pk).context("the proving key is in use")?;
        vm.vm_config.system.config.set_segmentation_max_memory(segment_memory);
        Sdk::builder()
            .app_pk(key)
            .agg_params(AggregationSystemParams::default())
            .build()
            .context("failed to set the proof system up")
    }
}

/// Aside first, so that a file that is there is whole.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("new");
    fs::write(&aside, bytes).with_context(|| format!("failed to write {}", aside.display()))?;
    fs::rename(&aside, path).with_context(|| format!("failed to write {}", path.display()))
}
