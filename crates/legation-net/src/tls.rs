//! TLS as the channel wants it: version 1.3 and nothing else, one key exchange, both sides with a self-signed certificate.
//!
//! TLS proves only that the peer holds the private half of the key in its certificate. *Whose* key that is, the
//! [handshake](crate::handshake) after it finds out; so a certificate's names and dates mean nothing here and are not read.
//!
//! Checks on the peer, on both sides:
//! 1. TLS 1.3 with X25519MLKEM768: both ends are this program, so nothing weaker is ever needed;
//! 2. exactly one certificate, at most [`CERTIFICATE_MAX`] bytes, nothing after it;
//! 3. its key is Ed25519 in the one DER spelling, its issuer is its subject, and it is signed by its own key;
//! 4. the CertificateVerify message is an Ed25519 signature by that key (possession, for this session);
//! 5. both sides speak [`ALPN`].
//!
//! Absent by construction: tickets, resumption, early data, SNI, key log (whatever `SSLKEYLOGFILE` says), other signatures.
//! The private key is used through [`legation_core::Signer`] and never copied into this crate.

use std::{fmt, sync::Arc};

use legation_core::{PublicKey, Signature, Signer};
use rustls::{
    CertificateError, ClientConfig, CommonState, ConnectionCommon, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use x509_parser::{
    oid_registry::OID_SIG_ED25519,
    prelude::{FromDer, X509Certificate},
};
use zeroize::Zeroizing;

/// The application protocol both sides must name (RFC 7301).
pub const ALPN: &[u8] = b"legation/1";
/// Largest certificate looked at, in bytes; ours have about 250.
pub const CERTIFICATE_MAX: usize = 1024;
/// Label of the keying material that belongs to what the TLS client says (RFC 8446 section 7.5).
pub const EXPORTER_CLIENT: &[u8] = b"EXPORTER-legation-v1 client";
/// Label of the keying material that belongs to what the TLS server says.
pub const EXPORTER_SERVER: &[u8] = b"EXPORTER-legation-v1 server";

/// Why an identity cannot be used with TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("cannot make the certificate of the identity key: {0}")]
    Certificate(String),
    /// rustls refused the configuration.
    #[error("cannot configure TLS: {0}")]
    Config(String),
    /// The session lacks what an established session has.
    #[error("session is not an established one: {0}")]
    Session(String),
}

/// An identity key as both sides of TLS use it.
#[derive(Clone)]
pub struct TlsIdentity {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Keying material of one session, one value for each direction. It binds what is signed to the session.
pub struct Exporters {
    /// For what the TLS client signs.
    pub client: Zeroizing<[u8; 32]>,
    /// For what the TLS server signs.
    pub server: Zeroizing<[u8; 32]>,
}

impl TlsIdentity {
    /// Makes the certificate and both configurations.
    ///
    /// # Errors
    /// When rcgen or rustls refuses, which they do not for an Ed25519 key.
    pub fn new(signer: Arc<dyn Signer>) -> Result<Self, TlsError> {
        let key = IdentitySigner::new(signer);
        let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(|e| TlsError::Certificate(e.to_string()))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = params.self_signed(&key).map_err(|e| TlsError::Certificate(e.to_string()))?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], Arc::new(key));
        let resolver = Arc::new(SingleCertAndKey::from(certified));

        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768],
            ..aws_lc_rs::default_provider()
        });
        let bad = |e: Error| TlsError::Config(e.to_string());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(bad)?
            .with_client_cert_verifier(Arc::new(OneSelfSigned))
            .with_cert_resolver(resolver.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        server.key_log = Arc::new(rustls::NoKeyLog {});

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(bad)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OneSelfSigned))
            .with_client_cert_resolver(resolver);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        client.enable_early_data = false;
        client.enable_sni = false;
        client.key_log = Arc::new(rustls::NoKeyLog {});
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// Configuration of the side that dials.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// Configuration of the side that is dialled.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

impl Exporters {
    /// Takes the keying material of an established session.
    ///
    /// # Errors
    /// When the handshake is not over.
    pub fn of<D>(session: &ConnectionCommon<D>) -> Result<Self, TlsError> {
        let export = |label: &[u8]| {
            session
                .export_keying_material([0; 32], label, None)
                .map(Zeroizing::new)
                .map_err(|e| TlsError::Session(e.to_string()))
        };
        Ok(Self { client: export(EXPORTER_CLIENT)?, server: export(EXPORTER_SERVER)? })
    }
}

/// What the other side's name is to rustls: nothing is looked up by it and it does not travel.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into())
}

/// The key whose possession the peer proved, after a handshake; also makes sure that [`ALPN`] was agreed.
pub(crate) fn peer_key(session: &CommonState) -> Result<PublicKey, TlsError> {
    if session.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::Session("no application protocol was agreed".into()));
    }
    let Some([certificate]) = session.peer_certificates() else {
        return Err(TlsError::Session("peer showed no certificate".into()));
    };
    certificate_key(certificate).map_err(|why| TlsError::Session(why.into()))
}

/// Checks 2 and 3 on one certificate.
fn certificate_key(der: &CertificateDer<'_>) -> Result<PublicKey, &'static str> {
    if der.len() > CERTIFICATE_MAX {
        return Err("certificate is too large");
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| "not an X.509 certificate")?;
    if !rest.is_empty() {
        return Err("bytes after the certificate");
    }
    let tbs = &certificate.tbs_certificate;
    let key = PublicKey::from_spki(tbs.subject_pki.raw).ok_or("certificate's key is not Ed25519")?;
    if tbs.issuer.as_raw() != tbs.subject.as_raw() {
        return Err("certificate is not self-signed");
    }
    if certificate.signature_algorithm.algorithm != OID_SIG_ED25519 || tbs.signature.algorithm != OID_SIG_ED25519 {
        return Err("certificate is not signed with Ed25519");
    }
    let signature = certificate.signature_value.data.as_ref().try_into().map_err(|_| "signature is not 64 bytes")?;
    key.verify(tbs.as_ref(), &Signature(signature)).map_err(|_| "certificate is not signed by its own key")?;
    Ok(key)
}

/// The verifier of both sides.
#[derive(Debug)]
struct OneSelfSigned;

impl OneSelfSigned {
    fn certificate(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let refuse = |why: &str| {
            tracing::debug!(why, "refused a certificate");
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
        };
        if !others.is_empty() {
            return Err(refuse("more than one certificate"));
        }
        certificate_key(leaf).map(drop).map_err(refuse)
    }

    fn possession(
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = Error::InvalidCertificate(CertificateError::BadSignature);
        let key = certificate_key(leaf).map_err(|_| bad.clone())?;
        let signature = signed.signature().try_into().map_err(|_| bad.clone())?;
        if signed.scheme != SignatureScheme::ED25519 || key.verify(message, &Signature(signature)).is_err() {
            return Err(bad);
        }
        Ok(HandshakeSignatureValid::assertion())
    }
}

fn only_tls13() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.3 only".into()))
}

impl ServerCertVerifier for OneSelfSigned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::certificate(leaf, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::possession(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for OneSelfSigned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::certificate(leaf, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::possession(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The identity key as rustls and rcgen want to use it.
#[derive(Clone)]
struct IdentitySigner {
    signer: Arc<dyn Signer>,
    key: PublicKey,
    spki: [u8; 44],
}

impl IdentitySigner {
    fn new(signer: Arc<dyn Signer>) -> Self {
        let key = signer.public_key();
        Self { signer, key, spki: key.spki() }
    }
}

impl fmt::Debug for IdentitySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentitySigner({:?})", self.key)
    }
}

impl rustls::sign::SigningKey for IdentitySigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn rustls::sign::Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(&self.spki[..]))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl rustls::sign::Signer for IdentitySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.signer.sign(message).0.to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl rcgen::PublicKeyData for IdentitySigner {
    fn der_bytes(&self) -> &[u8] {
        self.key.as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for IdentitySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.signer.sign(message).0.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use legation_keys::IdentityKey;

    use super::*;

    fn certificate(params: impl FnOnce(&mut rcgen::CertificateParams)) -> CertificateDer<'static> {
        let key = IdentitySigner::new(Arc::new(IdentityKey::from_seed([1; 32])));
        let mut p = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params(&mut p);
        p.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn only_a_small_self_signed_ed25519_leaf_is_read() {
        let good = certificate(|_| {});
        assert_eq!(certificate_key(&good), Ok(IdentityKey::from_seed([1; 32]).public_key()));

        let large = certificate(|p| {
            let blob = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 59999, 1], vec![0; 2048]);
            p.custom_extensions.push(blob);
        });
        let p256 = {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().der().clone()
        };
        let by_another = {
            let issuer = rcgen::Issuer::new(
                rcgen::CertificateParams::new(Vec::new()).unwrap(),
                IdentitySigner::new(Arc::new(IdentityKey::from_seed([2; 32]))),
            );
            let key = IdentitySigner::new(Arc::new(IdentityKey::from_seed([1; 32])));
            rcgen::CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &issuer).unwrap().der().clone()
        };
        let longer = CertificateDer::from([&good[..], &[0]].concat());
        let mut forged = good.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        for (name, der, why) in [
            ("large", large, "certificate is too large"),
            ("p256", p256, "certificate's key is not Ed25519"),
            ("signed by another key", by_another, "certificate is not signed by its own key"),
            ("longer", longer, "bytes after the certificate"),
            ("forged", CertificateDer::from(forged), "certificate is not signed by its own key"),
            ("cut", CertificateDer::from(good[..100].to_vec()), "not an X.509 certificate"),
            ("empty", CertificateDer::from(Vec::new()), "not an X.509 certificate"),
        ] {
            assert_eq!(certificate_key(&der), Err(why), "{name}");
        }
    }

    #[test]
    fn configurations_keep_no_sessions() {
        let identity = TlsIdentity::new(Arc::new(IdentityKey::from_seed([1; 32]))).unwrap();
        let server = identity.server();
        assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
        assert!(!server.ticketer.enabled() && !server.session_storage.can_cache());
        let client = identity.client();
        assert!(!client.enable_early_data && !client.enable_sni);
        for provider in [server.crypto_provider(), client.crypto_provider()] {
            let groups: Vec<_> = provider.kx_groups.iter().map(|g| g.name()).collect();
            assert_eq!(groups, [rustls::NamedGroup::X25519MLKEM768]);
            let first = provider.cipher_suites[0].suite();
            assert_eq!(first, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
        }
    }
}
