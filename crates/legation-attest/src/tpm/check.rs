//! The checks of a TPM verification, by stable name, in the order they are made.

crate::check::checks! {
    /// Form of the report.
    Report = "tpm.report", "the report is JSON of this version, within its bounds";
    /// The attestation key.
    AttestationKey = "tpm.ak", "the attestation key is fixed to its TPM, restricted, signs, and has one scheme";
    /// Form of the quote.
    Quote = "tpm.quote", "a TPM made the bytes, and they are a quote";
    /// Signature of the quote.
    Signature = "tpm.signature", "the attestation key signed the quote, with its scheme";
    /// Qualifying data.
    QualifyingData = "tpm.qualifying-data", "the quote carries 32 or 64 bytes of qualifying data";
    /// Selection of registers.
    Selection = "tpm.selection", "the values given are those quoted, with registers 0 to 7 of SHA-256 or SHA-384 among them and none that any program may reset";
    /// Values of registers.
    Values = "tpm.values", "the values hash to the digest that was quoted";
    /// Clock.
    Clock = "tpm.clock", "the TPM's clock has not gone back";
    /// Form of the endorsements.
    Endorsements = "tpm.endorsements", "the endorsements are certificates of the attestation key, or a key attestation and its appointment";
    /// Root of the certificates.
    Root = "tpm.root", "the certificates end in a TPM root of the anchor file, of this kind";
    /// Signatures and names along the chain.
    Chain = "tpm.chain", "each certificate is signed by the authority above it, with the names and key usages they must have";
    /// Dates along the chain.
    Dates = "tpm.dates", "every certificate is inside its dates at the time of the verdict";
    /// Revocation lists.
    Revocation = "tpm.crl", "no revocation list at hand is stale, forged or names a certificate of the chain";
    /// The certified key.
    Certificate = "tpm.certificate", "the leaf is for a TPM's endorsement key, or for this attestation key, says so, and is of the kind the anchor file names";
    /// The verifier's word on the attestation key.
    KeyAttestation = "tpm.key-attestation", "an appointed verifier says, for this time, that the attestation key lives beside the endorsement key";
    /// Event log.
    EventLog = "tpm.event-log", "the event log, where there is one, replays to the quoted values";
}
