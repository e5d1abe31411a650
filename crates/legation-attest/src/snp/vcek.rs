//! The certificate of a chip's key as a piece of collateral: AMD's service gives it for a chip and a security version, so
//! a report whose host gave none says by itself which one it needs.

use legation_core::{Rejection, UnixTime, claims::COLLATERAL_NAME_MAX, encoding};

use super::{
    AmdRoots, ChainCache, Presented, Product, Report, SigningKey, TcbVersion,
    chain::{self},
    check::Check,
    leaf::Holder,
};

/// Whose key at which security version a certificate is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vcek {
    /// The product.
    pub product: Product,
    /// The chip's id: 64 bytes, 8 of Turin.
    pub hwid: Vec<u8>,
    /// The security version.
    pub tcb: TcbVersion,
}

impl Vcek {
    /// The one that signed a report, by the report's own word; nothing of it is believed.
    ///
    /// # Errors
    /// `evidence.endorsements`: another key signed it, or it does not say whose: version 2 names no product, and a host
    /// may have the chip's id masked.
    pub fn of_report(report: &[u8]) -> Result<Self, Rejection> {
        let report = Report::parse(report)?;
        let unnamed = |got: &str| {
            Rejection::new("evidence.endorsements", "certificate of the report's key")
                .expected("one beside the report, or a report that says which chip's it is")
                .got(got)
                .fix("have the host give its table of certificates, or name the certificate's file in `vcek`")
        };
        if report.key_flags.signing_key() != SigningKey::Vcek {
            return Err(unnamed("none, and no chip's key signed"));
        }
        let product = report.cpuid.and_then(|cpuid| Product::from_cpuid(cpuid.family, cpuid.model));
        let product = product.ok_or_else(|| unnamed("none, and no product in the report"))?;
        let hwid = &report.chip_id[..product.hwid_len()];
        if hwid.iter().all(|byte| *byte == 0) {
            return Err(unnamed("none, and no chip in the report"));
        }
        let tcb = TcbVersion::decode(product, report.reported_tcb);
        let tcb = tcb.ok_or_else(|| unnamed("none, and no security version of this product in the report"))?;
        Ok(Self { product, hwid: hwid.to_vec(), tcb })
    }

    /// The one that a certificate is for, once its chain is verified as of `at`.
    ///
    /// # Errors
    /// The first check of the chain that refuses; `snp.extensions` where it is a cloud provider's.
    pub fn of_certificate(der: &[u8], roots: &AmdRoots, at: UnixTime) -> Result<Self, Rejection> {
        let presented = Presented { report: &[], leaf: der, intermediate: None, crls: &[], grace: 0 };
        let chain = chain::chain(&presented, roots, &ChainCache::new(0), at, &mut |_| ())?;
        let leaf = &chain.leaf;
        let Holder::Chip(hwid) = &leaf.holder else {
            return Err(Check::Extensions
                .refuse("holder of the certificate", "a chip", "a cloud provider")
                .fix("send the VLEK beside the report: it is no collateral"));
        };
        Ok(Self { product: leaf.product, hwid: hwid.clone(), tcb: leaf.tcb })
    }

    /// Its name as collateral: `vcek/PRODUCT/HWID/SVN`, HWID in base64url without padding, SVN such as `04-00-24-219` in the
    /// order of AMD's query.
    pub fn name(&self) -> String {
        let hwid = encoding::base64(&self.hwid).trim_end_matches('=').replace('+', "-").replace('/', "_");
        let svn: Vec<_> = self.svn().iter().map(|value| format!("{value:02}")).collect();
        format!("vcek/{}/{hwid}/{}", self.product, svn.join("-"))
    }

    /// Reads back what [`Vcek::name`] wrote; no other spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        if name.len() > COLLATERAL_NAME_MAX {
            return None;
        }
        let [product, hwid, svn] = name.strip_prefix("vcek/")?.split('/').collect::<Vec<_>>().try_into().ok()?;
        let product: Product = product.parse().ok()?;
        let mut padded = hwid.replace('-', "+").replace('_', "/");
        while !padded.len().is_multiple_of(4) {
            padded.push('=');
        }
        let hwid = encoding::unbase64(&padded).ok()?;
        let svn = svn.split('-').map(|value| value.parse().ok()).collect::<Option<Vec<u8>>>()?;
        let (fmc, svn) = match (product, svn.as_slice()) {
            (Product::Turin, [fmc, rest @ ..]) => (Some(*fmc), rest),
            (_, rest) => (None, rest),
        };
        let &[bootloader, tee, snp, microcode] = svn else { return None };
        let vcek = Self { product, hwid, tcb: TcbVersion { fmc, bootloader, tee, snp, microcode } };
        (vcek.hwid.len() == product.hwid_len() && vcek.name() == name).then_some(vcek)
    }

    /// Security versions in the order of AMD's query.
    fn svn(&self) -> Vec<u8> {
        let TcbVersion { fmc, bootloader, tee, snp, microcode } = self.tcb;
        fmc.into_iter().chain([bootloader, tee, snp, microcode]).collect()
    }

    /// Path and query at AMD's key distribution service (VCEK specification 57230, section 4.1).
    pub fn path(&self) -> String {
        let names: &[&str] = match self.tcb.fmc {
            Some(_) => &["fmc", "bl", "tee", "snp", "ucode"],
            None => &["bl", "tee", "snp", "ucode"],
        };
        let query: Vec<_> = names.iter().zip(self.svn()).map(|(name, value)| format!("{name}SPL={value:02}")).collect();
        let (product, hwid) = (self.product.certified_name(), encoding::hex(&self.hwid));
        format!("vcek/v1/{product}/{hwid}?{}", query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_nothing_else_is_one() {
        let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
        let milan = Vcek { product: Product::Milan, hwid: vec![0xfb; 64], tcb };
        let turin = Vcek { product: Product::Turin, hwid: vec![1; 8], tcb: TcbVersion { fmc: Some(1), ..tcb } };
        for vcek in [&milan, &turin] {
            assert_eq!(Vcek::from_name(&vcek.name()).as_ref(), Some(vcek));
        }
        let name = milan.name();
        assert!(name.ends_with("/04-00-24-219") && name.len() <= COLLATERAL_NAME_MAX, "{name}");
        assert!(milan.path().ends_with("?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"), "{}", milan.path());
        assert!(turin.path().contains("/Turin/0101010101010101?fmcSPL=01&blSPL=04"), "{}", turin.path());
        for bad in [
            "vcek/milan",
            &name.replace("milan", "turin"),
            &name.replace("milan", "genoa/"),
            &name.replace("04-00", "4-0"),
            &name.replace("04-00", "04-256"),
            &name.replace("/04-00", "/01-04-00"),
            &turin.name().replace("turin", "milan"),
            &name[5..],
            &"vcek/".repeat(100),
        ] {
            assert_eq!(Vcek::from_name(bad), None, "{bad}");
        }
    }
}
