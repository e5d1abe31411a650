//! The checks of a Nitro verification, by stable name, in the order they are made.

crate::check::checks! {
    /// Size of the document.
    Size = "nitro.size", "the document has at most 32 KiB";
    /// COSE envelope.
    Envelope = "nitro.cose", "the document is one untagged COSE_Sign1 in its one spelling, signed with ES384, with no other header";
    /// Payload.
    Payload = "nitro.payload", "the payload is one CBOR map in its one spelling, with every field of AWS once and no other";
    /// Platform configuration registers.
    Registers = "nitro.pcrs", "the registers are numbered 0 to 31, hold 32, 48 or 64 bytes, and 0, 1 and 2 are among them";
    /// Form of the certificates.
    Certificate = "nitro.certificate", "every certificate is well-formed X.509 of version 3";
    /// Pinned root.
    Root = "nitro.root", "the bundle begins with the root that is pinned";
    /// Signatures and names along the chain.
    Chain = "nitro.chain", "each certificate of the bundle signs the next, and the last one the leaf";
    /// Dates along the chain.
    Dates = "nitro.dates", "every certificate is inside its dates at the time of the verdict";
    /// Signature of the document.
    Signature = "nitro.signature", "the leaf's key signed header and payload, as they came";
    /// Time of the document.
    Timestamp = "nitro.timestamp", "the document was made inside the leaf's dates and not in the future";
    /// Module.
    Module = "nitro.module", "the module is an enclave of an EC2 instance, the one the leaf names";
}
