//! The checks of a SEV-SNP verification, by stable name, in the order they are made.

crate::check::checks! {
    /// Size of the report.
    Length = "snp.length", "the report has exactly 1184 bytes";
    /// Version of the report.
    Version = "snp.version", "the report is of version 2, 3, 4 or 5";
    /// Reserved bits and bytes.
    Reserved = "snp.reserved", "every reserved bit and byte is zero, also behind the signature";
    /// Algorithm of the signature.
    Algorithm = "snp.algorithm", "the report is signed with ECDSA P-384 and SHA-384";
    /// Form of the certificates.
    Certificate = "snp.certificate", "every certificate is well-formed X.509 of the profile AMD uses";
    /// Pinned root.
    Root = "snp.root", "the chain ends in a root that is pinned for this kind of evidence";
    /// Signatures and names along the chain.
    Chain = "snp.chain", "root signs intermediate signs leaf, with the names, CA flags and key usages they must have";
    /// Dates along the chain.
    Dates = "snp.dates", "every certificate is inside its dates at the time of the verdict";
    /// Revocation lists.
    Revocation = "snp.crl", "no revocation list at hand is stale, forged or names the intermediate";
    /// AMD's extensions in the leaf.
    Extensions = "snp.extensions", "the leaf carries product, security versions and either a chip or a cloud provider";
    /// Which key signed.
    SigningKey = "snp.signing-key", "the report says it is signed by the kind of key the leaf certifies";
    /// Product.
    Product = "snp.product", "leaf, root and report name one product";
    /// Chip.
    ChipId = "snp.chip-id", "the report comes from the chip the leaf is for";
    /// Security versions.
    Tcb = "snp.tcb", "the reported security version is the certified one and not above the current one";
    /// Signature of the report.
    Signature = "snp.signature", "the leaf's key signed bytes 0 to 29Fh of the report";
    /// Migration.
    Migration = "snp.migration", "no migration agent can take the guest to another chip";
    /// Privilege level.
    Vmpl = "snp.vmpl", "the guest itself asked for the report, not the hypervisor";
}
