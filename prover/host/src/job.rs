//! A job: an execution to be proven, with its secrets, as files in a folder that only the prover reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use legation_core::{
    Digest, UnixTime, encoding,
    statement::{ExecutionClaim, args_digest},
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Largest module, and largest input, of a job.
const BYTES_MAX: u64 = 64 << 20;
/// Most arguments and most inputs, as in the engine.
const STRINGS_MAX: usize = 1024;

/// `job.json`. Paths are relative to its folder. Keys are 32 bytes in hexadecimal: the keys of commitments, which open nothing.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// What is to be proven, as the report says it.
    #[zeroize(skip)]
    pub claim: ExecutionClaim,
    /// The module.
    #[zeroize(skip)]
    pub module: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its inputs, in order.
    pub inputs: Vec<JobInput>,
    /// Key of the commitment to the output; nothing where the report names none.
    pub output_key: Option<String>,
}

/// An input and the key of its commitment.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct JobInput {
    /// Where it is.
    #[zeroize(skip)]
    pub file: PathBuf,
    /// Key of its commitment.
    pub key: String,
}

/// A job, read.
pub struct Job {
    /// What is to be proven.
    pub claim: ExecutionClaim,
    /// The head of the witness, the module, and the inputs: what the program reads, in order.
    pub items: Vec<Zeroizing<Vec<u8>>>,
}

/// The commitment to `data` under `key`.
pub fn commit(key: &[u8; 32], data: &[u8]) -> Digest {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    Digest::from_bytes(out)
}

fn read(folder: &Path, file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let path = folder.join(file);
    let size = fs::metadata(&path).with_context(|| format!("failed to read {}", path.display()))?.len();
    ensure!(size <= BYTES_MAX, "{} has {size} bytes, at most {BYTES_MAX} are proven", path.display());
    fs::read(&path).map(Zeroizing::new).with_context(|| format!("failed to read {}", path.display()))
}

impl Job {
    /// Reads a job and holds its files against what it claims: what is refused here would cost a proof.
    ///
    /// # Errors
    /// A file is missing or too large, or is not what the claim says.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let text = Zeroizing::new(fs::read(path).with_context(|| format!("failed to read {}", path.display()))?);
        let file: JobFile = serde_json::from_slice(&text).with_context(|| format!("{} is no job", path.display()))?;
        let module = read(folder, &file.module)?;
        let inputs: Vec<_> = file.inputs.iter().map(|input| read(folder, &input.file)).collect::<Result<_>>()?;
        Self::new(&file, module, inputs)
    }

    /// As [`Self::open`], of what was read.
    ///
    /// # Errors
    /// Something is not what the claim says.
    pub fn new(file: &JobFile, module: Zeroizing<Vec<u8>>, inputs: Vec<Zeroizing<Vec<u8>>>) -> Result<Self> {
        let claim = file.claim.clone();
        ensure!(
            file.args.len() <= STRINGS_MAX && inputs.len() <= STRINGS_MAX,
            "more than {STRINGS_MAX} arguments or inputs"
        );
        ensure!(Digest::of(&module) == claim.module, "the module is not the claimed one, {}", claim.module);
        ensure!(args_digest(&file.args) == claim.args, "the arguments are not the claimed ones");
        ensure!(
            file.inputs.len() == claim.inputs.len() && inputs.len() == claim.inputs.len(),
            "{} inputs are claimed, and {} are there",
            claim.inputs.len(),
            inputs.len()
        );
        ensure!(
            file.output_key.is_some() == claim.output.is_some(),
            "a key for the output belongs to a claim with an output, and only to one"
        );
        let mut keys = Zeroizing::new(Vec::with_capacity(inputs.len()));
        for (at, (input, (named, expected))) in inputs.iter().zip(file.inputs.iter().zip(&claim.inputs)).enumerate() {
            let key: [u8; 32] = encoding::unhex_array(&named.key).with_context(|| format!("key of input {at}"))?;
            ensure!(commit(&key, input) == *expected, "input {at} is not what its commitment says, {expected}");
            keys.push(key);
        }
        let output_key = match &file.output_key {
            Some(key) => Some(encoding::unhex_array::<32>(key).context("key of the output")?),
            None => None,
        };
        let head = head(&claim, &file.args, &keys, output_key);
        let items = [head, module].into_iter().chain(inputs).collect();
        Ok(Self { claim, items })
    }
}

/// What the program reads first: the layout is that of `prover/guest/src/witness.rs`.
fn head(
    claim: &ExecutionClaim,
    args: &[String],
    keys: &[[u8; 32]],
    output_key: Option<[u8; 32]>,
) -> Zeroizing<Vec<u8>> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let UnixTime(clock) = claim.clock;
    let mut out = Zeroizing::new(Vec::new());
    out.extend_from_slice(claim.seed.as_bytes());
    out.extend_from_slice(&clock.to_be_bytes());
    out.push(u8::from(output_key.is_some()));
    out.extend_from_slice(&output_key.unwrap_or_default());
    out.extend_from_slice(&count(args.len()));
    for arg in args {
        out.extend_from_slice(&count(arg.len()));
        out.extend_from_slice(arg.as_bytes());
    }
    out.extend_from_slice(&count(keys.len()));
    keys.iter().for_each(|key| out.extend_from_slice(key));
    out
}
