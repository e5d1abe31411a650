//! A job of the prover, as `prover/host/src/job.rs` reads it.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use legation_core::{encoding::hex, statement::ExecutionClaim};
use legation_net::delegation::QuestionKey;
use serde::Serialize;
use zeroize::Zeroizing;

use super::folder::Folder;

/// What a job takes as text beside its arguments: room from the start, so that no copy is left behind as it grows.
const TEXT: usize = 16 * 1024;

/// An execution with its secrets.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) wasm: Bytes,
    pub(crate) args: Vec<String>,
    pub(crate) input: Arc<Zeroizing<Vec<u8>>>,
    pub(crate) key: QuestionKey,
}

/// `job.json`.
#[derive(Serialize)]
struct JobFile<'a> {
    claim: &'a ExecutionClaim,
    module: &'a str,
    args: &'a [String],
    inputs: [JobInput<'a>; 1],
    output_key: Option<&'a str>,
}

#[derive(Serialize)]
struct JobInput<'a> {
    file: &'a str,
    key: &'a str,
}

impl Job {
    /// Writes it into a private folder. Keys are those of commitments: nothing is opened or sealed with them.
    pub(super) async fn write(&self, parent: &Path, claim: &ExecutionClaim) -> io::Result<Folder> {
        let (job, claim, parent) = (self.clone(), claim.clone(), parent.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            let folder = Folder::new(&parent)?;
            folder.write("module.wasm", &job.wasm)?;
            folder.write("input", &job.input)?;
            folder.write("job.json", &job.text(&claim)?)?;
            Ok(folder)
        });
        written.await.map_err(io::Error::other)?
    }

    fn text(&self, claim: &ExecutionClaim) -> io::Result<Zeroizing<Vec<u8>>> {
        let input = Zeroizing::new(hex(&self.key.input_key()[..]));
        let output = Zeroizing::new(hex(&self.key.output_key()[..]));
        let args: usize = self.args.iter().map(|arg| arg.len().saturating_mul(6).saturating_add(3)).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(TEXT.saturating_add(args)));
        let file = JobFile {
            claim,
            module: "module.wasm",
            args: &self.args,
            inputs: [JobInput { file: "input", key: &input }],
            output_key: claim.output.is_some().then_some(output.as_str()),
        };
        serde_json::to_writer(&mut *text, &file)?;
        Ok(text)
    }
}
