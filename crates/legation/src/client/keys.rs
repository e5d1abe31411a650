//! Calls about swarm keys. What shows who has one is believed for its signatures alone ([`crate::custody`]).

use bytes::Bytes;
use hyper::Method;
use legation_core::{Signed, SwarmName, custody::Charter};
use legation_manager::api::keys::{KeyBundle, NewCharter};
use legation_pool::CustodyView;

use super::{Client, ClientError, segment};

impl Client {
    /// The swarm keys of the pool.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn keys(&self) -> Result<Vec<CustodyView>, ClientError> {
        self.get("/v1/keys").await
    }

    /// One swarm key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn key(&self, swarm: &SwarmName) -> Result<CustodyView, ClientError> {
        self.get(&key_path(swarm, "")).await
    }

    /// What shows who has it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn key_bundle(&self, swarm: &SwarmName) -> Result<KeyBundle, ClientError> {
        self.get(&key_path(swarm, "/roster")).await
    }

    /// Sets its charter.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_charter(&self, charter: Signed<Charter>) -> Result<CustodyView, ClientError> {
        let path = key_path(&charter.swarm, "/charter");
        let body = serde_json::to_vec(&NewCharter { charter }).map_err(|e| ClientError::Answer(e.to_string()))?;
        self.json(Method::PUT, &path, Bytes::from(body)).await
    }

    /// Asks for another committee.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rotate_key(&self, swarm: &SwarmName) -> Result<CustodyView, ClientError> {
        self.post(&key_path(swarm, "/rotate"), &()).await
    }
}

fn key_path(swarm: &SwarmName, rest: &str) -> String {
    format!("/v1/keys/{}{rest}", segment(swarm.as_str()))
}
