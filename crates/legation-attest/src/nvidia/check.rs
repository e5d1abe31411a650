//! The checks of a GPU verification, by stable name, in the order they are made.

crate::check::checks! {
    /// Form of the transcript.
    Transcript = "nvidia.transcript", "the report is one SPDM 1.1 request for all measurements and its signed answer";
    /// Measurements.
    Measurements = "nvidia.measurements", "every measurement is a SHA-384 of DMTF's form, numbered from 1 on";
    /// Opaque data.
    Opaque = "nvidia.opaque", "the opaque data are fields NVIDIA's tools know, each once, with driver and VBIOS among them";
    /// Nonce.
    Nonce = "nvidia.nonce", "the request carries the nonce that was asked for";
    /// Form of the certificates.
    Certificate = "nvidia.certificate", "every certificate is well-formed X.509 of version 3";
    /// Pinned root.
    Root = "nvidia.root", "the chain ends in the pinned root of NVIDIA's device identities";
    /// Signatures and names along the chain.
    Chain = "nvidia.chain", "each certificate is signed by the next, and the leaf is for signatures";
    /// Dates along the chain.
    Dates = "nvidia.dates", "every certificate is inside its dates at the time of the verdict";
    /// Architecture.
    Architecture = "nvidia.architecture", "leaf and device certificate are of a GPU of a known architecture";
    /// Signature of the transcript.
    Signature = "nvidia.signature", "the leaf's key signed request and answer, as they came";
    /// Firmware.
    Firmware = "nvidia.firmware", "the firmware that the report names is the firmware the leaf was issued for";
}
