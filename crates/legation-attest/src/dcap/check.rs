//! The checks of a DCAP verification, by stable name, in the order they are made.

crate::check::checks! {
    /// Form of the collateral.
    CollateralForm = "dcap.collateral-form", "the collateral is whole: TCB levels, identity, revocation lists, chains";
    /// Size of the quote.
    Size = "dcap.size", "the quote has at most 16384 bytes";
    /// Version of the quote.
    Version = "dcap.version", "the quote is of version 3 for SGX, 4 or 5 for TDX, with a known body";
    /// Form of the quote.
    Form = "dcap.form", "every length in the quote is exact, and nothing but zeros follows it";
    /// Kind of machine.
    Kind = "dcap.kind", "the quote is of the kind of machine the evidence says";
    /// Algorithm of the quote.
    Algorithm = "dcap.algorithm", "ECDSA P-256 with SHA-256, by Intel's quoting enclave";
    /// Reserved bits and bytes.
    Reserved = "dcap.reserved", "every reserved bit and byte of quote and quoting enclave's report is zero";
    /// The TDX module.
    Module = "dcap.module", "a TDX quote comes from a module that Intel signed, without attributes";
    /// Form of the PCK chain.
    Certificate = "dcap.certificate", "the quote carries PCK certificate, its authority and the root, well-formed";
    /// Pinned root.
    Root = "dcap.root", "every chain of quote and collateral ends in Intel's root";
    /// Collateral of the kind.
    CollateralKind = "dcap.collateral-kind", "the collateral is for this kind of quote";
    /// Collateral of the platform.
    Collateral = "dcap.collateral", "the collateral is for this platform: FMSPC, PCE and certificate authority";
    /// Dates of the collateral.
    Freshness = "dcap.freshness", "every document of the collateral is issued, and current or within the grace";
    /// Dates of certificates.
    Dates = "dcap.dates", "every certificate is inside its dates at the time of the verdict";
    /// Revocation.
    Revocation = "dcap.crl", "no revocation list names a certificate of the chains";
    /// Key of the quote.
    QeBinding = "dcap.qe-binding", "the quoting enclave's report carries the key that signs the quote";
    /// Identity of the quoting enclave.
    QeIdentity = "dcap.qe-identity", "the quoting enclave is Intel's, and not debugged";
    /// TCB level.
    Tcb = "dcap.tcb", "the platform reaches a TCB level that is not revoked";
    /// Attributes.
    Attributes = "dcap.attributes", "attributes that would undo the protection are clear";
    /// Signature of the quote.
    Signature = "dcap.signature", "the attestation key signed header and body of the quote";
    /// Signature of the quoting enclave's report.
    QeSignature = "dcap.qe-signature", "the PCK certificate's key signed the quoting enclave's report";
    /// Signatures of the collateral.
    CollateralSignature = "dcap.collateral-signature", "Intel's signing key signed TCB levels and identity";
    /// Everything, by the library.
    Chain = "dcap.chain", "chains, revocation lists and all of the above verify in dcap-qvl";
}
