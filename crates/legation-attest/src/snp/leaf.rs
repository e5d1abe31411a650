//! What a VCEK or VLEK certificate says in AMD's extensions (VCEK specification 57230, certificate extensions).

use legation_core::{Rejection, encoding};

use super::{
    certificate::Certificate,
    check::Check,
    tcb::{Product, TcbVersion},
};
use crate::{oid, x509::Key};

/// Longest cloud provider id, in bytes.
pub const CSP_ID_MAX: usize = 127;

/// Which of the two keys a leaf certifies, and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// Chip endorsement key of the chip with this id.
    Chip(Vec<u8>),
    /// Loaded endorsement key of this cloud provider, whichever the chip.
    Provider(String),
}

impl Holder {
    /// The leaf's common name.
    pub(crate) const fn common_name(&self) -> &'static str {
        match self {
            Self::Chip(_) => "SEV-VCEK",
            Self::Provider(_) => "SEV-VLEK",
        }
    }
}

/// A leaf whose extensions were read.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// Chip or cloud provider.
    pub(crate) holder: Holder,
    /// Product.
    pub(crate) product: Product,
    /// Security version the key was derived for.
    pub(crate) tcb: TcbVersion,
    /// Uncompressed point on P-384.
    pub(crate) key: Vec<u8>,
}

impl Leaf {
    /// Reads the extensions of a certificate.
    pub(crate) fn read(cert: &Certificate) -> Result<Self, Rejection> {
        Self::extensions(cert).map_err(|why| {
            Check::Extensions
                .refuse(format!("extensions of {}", cert.subject_text), "those of a VCEK or VLEK", why)
                .fix("send the VCEK or VLEK itself as the first endorsement")
        })
    }

    fn extensions(cert: &Certificate) -> Result<Self, String> {
        let find = |id: &[u8]| cert.amd(id);
        let need = |id: &[u8], name: &str| find(id).ok_or_else(|| format!("no {name}"));
        let spl = |id: &[u8], name: &str| integer(need(id, name)?).ok_or_else(|| format!("{name} is not a byte"));
        let Key::P384(key) = &cert.key else { return Err("an RSA key".to_owned()) };
        integer(need(oid::AMD_STRUCT_VERSION, "structVersion")?).ok_or("structVersion is not a byte")?;
        let name = ia5(need(oid::AMD_PRODUCT_NAME, "productName")?).ok_or("productName is not a text")?;
        let product = Product::from_certified_name(name).ok_or_else(|| format!("productName `{name}`"))?;
        // Absent on some products; never anything but zero, as the bytes of TCB_VERSION they stand for are reserved.
        for id in oid::AMD_RESERVED_SPL {
            if find(id).is_some_and(|value| integer(value) != Some(0)) {
                return Err("a reserved security version that is not zero".to_owned());
            }
        }
        let fmc = match (product, find(oid::AMD_FMC_SPL)) {
            (Product::Turin, _) => Some(spl(oid::AMD_FMC_SPL, "fmcSPL")?),
            (_, None) => None,
            (_, Some(_)) => return Err(format!("fmcSPL on {product}")),
        };
        let tcb = TcbVersion {
            fmc,
            bootloader: spl(oid::AMD_BL_SPL, "blSPL")?,
            tee: spl(oid::AMD_TEE_SPL, "teeSPL")?,
            snp: spl(oid::AMD_SNP_SPL, "snpSPL")?,
            microcode: spl(oid::AMD_UCODE_SPL, "ucodeSPL")?,
        };
        let holder = match (find(oid::AMD_HWID), find(oid::AMD_CSP_ID)) {
            (Some(hwid), None) => {
                let id = octets(hwid, product.hwid_len());
                Holder::Chip(id.ok_or_else(|| format!("hwID {} on {product}", encoding::hex(hwid)))?.to_vec())
            }
            (None, Some(csp)) => {
                let id = ia5(csp).filter(|id| (1..=CSP_ID_MAX).contains(&id.len()));
                Holder::Provider(id.ok_or("cspID is not a short text")?.to_owned())
            }
            _ => return Err("not exactly one of hwID and cspID".to_owned()),
        };
        if cert.common_name != holder.common_name() {
            return Err(format!("common name `{}`, expected `{}`", cert.common_name, holder.common_name()));
        }
        Ok(Self { holder, product, tcb, key: key.clone() })
    }
}

/// DER INTEGER from 0 to 255.
fn integer(der: &[u8]) -> Option<u8> {
    match *der {
        [0x02, 0x01, value @ 0..=0x7f] => Some(value),
        [0x02, 0x02, 0x00, value @ 0x80..=0xff] => Some(value),
        _ => None,
    }
}

/// DER IA5String of less than 128 bytes.
fn ia5(der: &[u8]) -> Option<&str> {
    match der {
        [0x16, length @ 0..=0x7f, text @ ..] if usize::from(*length) == text.len() && text.is_ascii() => {
            std::str::from_utf8(text).ok()
        }
        _ => None,
    }
}

/// Exactly `len` bytes: bare, as in every certificate we have seen, or in a DER OCTET STRING.
fn octets(value: &[u8], len: usize) -> Option<&[u8]> {
    match value {
        bare if bare.len() == len => Some(bare),
        [0x04, length, inner @ ..] if usize::from(*length) == len && inner.len() == len => Some(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_der_of_one_byte_is_a_security_version() {
        for (der, value) in [
            (&[2, 1, 3][..], Some(3)),
            (&[2, 2, 0, 0xd9], Some(0xd9)),
            (&[2, 1, 0x80], None),
            (&[2, 2, 0, 3], None),
            (&[2, 2, 1, 0], None),
            (&[2, 1], None),
            (&[2, 1, 3, 0], None),
            (&[4, 1, 3], None),
        ] {
            assert_eq!(integer(der), value, "{der:?}");
        }
    }

    #[test]
    fn chip_ids_come_bare_or_wrapped_and_of_the_right_length() {
        let wrapped = [&[4, 8][..], &[7; 8]].concat();
        assert_eq!(octets(&[7; 8], 8), Some(&[7; 8][..]));
        assert_eq!(octets(&wrapped, 8), Some(&[7; 8][..]));
        assert_eq!(octets(&[7; 9], 8), None);
        assert_eq!(octets(&wrapped[..9], 8), None);
    }
}
