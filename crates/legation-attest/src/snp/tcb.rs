//! Products and the security versions of their firmware.
//!
//! `TCB_VERSION` is 8 bytes whose layout depends on the product (SEV-SNP firmware ABI 56860, "TCB Version"):
//!
//! | byte | Milan, Genoa | Turin |
//! |---|---|---|
//! | 0 | BOOT_LOADER | FMC |
//! | 1 | TEE | BOOT_LOADER |
//! | 2 | reserved | TEE |
//! | 3 | reserved | SNP |
//! | 4, 5 | reserved | reserved |
//! | 6 | SNP | reserved |
//! | 7 | MICROCODE | MICROCODE |

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Generation of AMD EPYC whose root we know. Bergamo and Siena are endorsed as Genoa.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// Zen 3, family 19h models 00h to 0Fh.
    Milan,
    /// Zen 4, family 19h models 10h to 1Fh and A0h to AFh.
    Genoa,
    /// Zen 5, family 1Ah models 00h to 11h.
    Turin,
}

impl Product {
    /// Every product.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// Name in claims and policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }

    /// Name in certificates (VCEK specification 57230, productName).
    pub(crate) const fn certified_name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product in a certificate's productName, which may go on with a stepping, such as `Milan-B0`. That text is
    /// not compared with the report's CPUID stepping, a number: we hold no table of AMD's from one to the other.
    pub(crate) fn from_certified_name(name: &str) -> Option<Self> {
        let line = name.split_once('-').map_or(name, |(line, _)| line);
        Self::ALL.into_iter().find(|p| p.certified_name() == line)
    }

    /// The product by the CPUID family and model in a report of version 3 or later (both combined with their
    /// extensions).
    pub(crate) const fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// Bytes of a chip's id in its certificate: Turin shortened it to 8 and pads CHIP_ID with zeros.
    pub(crate) const fn hwid_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Product {
    type Err = TcbError;

    fn from_str(text: &str) -> Result<Self, TcbError> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| TcbError(text.chars().take(40).collect()))
    }
}

/// The text is not a security version, or not a product, as AMD writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of AMD's form")]
pub struct TcbError(String);

/// Security version numbers of the firmware a report rests on; larger is newer, component by component.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbVersion {
    /// First mutable code; Turin on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
    /// PSP boot loader.
    pub bootloader: u8,
    /// PSP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl TcbVersion {
    /// Reads the 8 bytes of a report; nothing when reserved bytes are not zero.
    pub fn decode(product: Product, b: [u8; 8]) -> Option<Self> {
        match product {
            Product::Milan | Product::Genoa => (b[2..6] == [0; 4]).then_some(Self {
                fmc: None,
                bootloader: b[0],
                tee: b[1],
                snp: b[6],
                microcode: b[7],
            }),
            Product::Turin => (b[4..7] == [0; 3]).then_some(Self {
                fmc: Some(b[0]),
                bootloader: b[1],
                tee: b[2],
                snp: b[3],
                microcode: b[7],
            }),
        }
    }

    /// The 8 bytes of a report.
    pub fn encode(&self, product: Product) -> [u8; 8] {
        match product {
            Product::Milan | Product::Genoa => [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode],
            Product::Turin => [self.fmc.unwrap_or(0), self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode],
        }
    }

    /// Whether no component is older than `other`'s. A partial order: two versions may each have something newer.
    pub fn at_least(&self, other: &Self) -> bool {
        self.fmc.unwrap_or(0) >= other.fmc.unwrap_or(0)
            && self.bootloader >= other.bootloader
            && self.tee >= other.tee
            && self.snp >= other.snp
            && self.microcode >= other.microcode
    }
}

/// As the query of AMD's key distribution service names it (VCEK specification 57230): `blSPL=3&teeSPL=0&..`.
impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmcSPL={fmc}&")?;
        }
        write!(f, "blSPL={}&teeSPL={}&snpSPL={}&ucodeSPL={}", self.bootloader, self.tee, self.snp, self.microcode)
    }
}

impl FromStr for TcbVersion {
    type Err = TcbError;

    fn from_str(text: &str) -> Result<Self, TcbError> {
        let error = || TcbError(text.chars().take(80).collect());
        let mut parts = text.split('&').peekable();
        let mut take = |name: &str| -> Option<u8> {
            let digits = parts.next_if(|p| p.split_once('=').is_some_and(|(n, _)| n == name))?.split_once('=')?.1;
            digits.parse().ok()
        };
        let fmc = if text.starts_with("fmcSPL=") { Some(take("fmcSPL").ok_or_else(error)?) } else { None };
        let version = Self {
            fmc,
            bootloader: take("blSPL").ok_or_else(error)?,
            tee: take("teeSPL").ok_or_else(error)?,
            snp: take("snpSPL").ok_or_else(error)?,
            microcode: take("ucodeSPL").ok_or_else(error)?,
        };
        // One spelling only: no leading zeros, signs or rest.
        if version.to_string() == text { Ok(version) } else { Err(error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text_name_the_same_version() {
        let milan = [3, 0, 0, 0, 0, 0, 8, 0x73];
        let turin = [1, 1, 1, 4, 0, 0, 0, 0x51];
        for (product, bytes, text) in [
            (Product::Milan, milan, "blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115"),
            (Product::Turin, turin, "fmcSPL=1&blSPL=1&teeSPL=1&snpSPL=4&ucodeSPL=81"),
        ] {
            let version = TcbVersion::decode(product, bytes).unwrap();
            assert_eq!(version.to_string(), text);
            assert_eq!(text.parse(), Ok(version));
            assert_eq!(version.encode(product), bytes);
        }
        assert_eq!(TcbVersion::decode(Product::Milan, turin), None, "reserved bytes");
        assert_eq!(TcbVersion::decode(Product::Turin, [0, 0, 0, 0, 1, 0, 0, 0]), None, "reserved bytes");
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "blSPL=3",
            "blSPL=03&teeSPL=0&snpSPL=8&ucodeSPL=115",
            "blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=256",
            "blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115&x=1",
            "teeSPL=0&blSPL=3&snpSPL=8&ucodeSPL=115",
        ] {
            assert!(bad.parse::<TcbVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn newer_in_one_and_older_in_another_is_neither() {
        let v = |snp, microcode| TcbVersion { fmc: None, bootloader: 1, tee: 0, snp, microcode };
        assert!(v(2, 2).at_least(&v(2, 1)));
        assert!(!v(2, 1).at_least(&v(1, 2)) && !v(1, 2).at_least(&v(2, 1)));
    }
}
