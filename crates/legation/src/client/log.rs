//! Calls about the transparency log. They need no token, and what comes back is believed for its signatures and hashes alone.

use bytes::Bytes;
use hyper::Method;
use legation_core::{Digest, logged::Logged};
use legation_log::{Consistency, TilePath};
use legation_manager::api::log::{Proven, ToProve};

use super::{Client, ClientError};

impl Client {
    async fn log_text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        String::from_utf8(bytes.to_vec()).map_err(|e| ClientError::Answer(e.to_string()))
    }

    /// The latest signed checkpoint of the log, or the one of this size.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log_checkpoint(&self, size: Option<u64>) -> Result<String, ClientError> {
        match size {
            Some(size) => self.log_text(&format!("/log/v1/checkpoint?size={size}")).await,
            None => self.log_text("/log/v1/checkpoint").await,
        }
    }

    /// The log's key as a vkey, as the manager says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log_key(&self) -> Result<String, ClientError> {
        self.log_text("/log/v1/key").await.map(|text| text.trim_end().to_owned())
    }

    /// A tile or a bundle of entries.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log_tile(&self, path: TilePath) -> Result<Bytes, ClientError> {
        self.send(Method::GET, &format!("/log/v1/{path}"), "application/json", Bytes::new()).await
    }

    /// That the log of `new` entries continues the one of `old`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log_consistency(&self, old: u64, new: u64) -> Result<Proven<Consistency>, ClientError> {
        self.get(&format!("/log/v1/proof/consistency?old={old}&new={new}")).await
    }

    /// The `log` section of a receipt with these envelopes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log_section(&self, to_prove: &ToProve) -> Result<Logged, ClientError> {
        self.post("/log/v1/proof/receipt", to_prove).await
    }

    /// A COSE receipt that the envelope with this digest is in the log.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log_cose(&self, digest: &Digest) -> Result<Bytes, ClientError> {
        self.send(Method::GET, &format!("/log/v1/receipt?digest={digest}"), "application/json", Bytes::new()).await
    }
}
