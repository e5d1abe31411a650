//! The checks of an Azure verification that are not the quote's or the hardware's own, by stable name, in their order.

crate::check::checks! {
    /// Form of the report.
    Report = "az.report", "the report is JSON of this version, within its bounds";
    /// Form of the paravisor's report.
    Hcl = "az.hcl", "the paravisor's report has its layout, and hardware and hash of the kinds that were asked for";
    /// The runtime data.
    Runtime = "az.runtime-data", "the runtime data are the paravisor's JSON with one attestation key";
    /// Number of endorsements.
    Endorsements = "az.endorsements", "the endorsements are those of the hardware's report";
    /// What binds the runtime data to the hardware.
    Binding = "az.binding", "the hardware's report carries the hash of the runtime data";
    /// What binds a TD's quote to the paravisor's report.
    Domain = "az.trust-domain", "the TDX quote is of the trust domain that the paravisor's report is of";
}
