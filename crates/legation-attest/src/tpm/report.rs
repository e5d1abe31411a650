//! The report of a TPM as it travels in evidence: JSON of the TPM's own structures, which are hashed and verified in the
//! bytes that travelled.

use std::{collections::BTreeMap, fmt};

use legation_core::{
    Rejection,
    encoding::{self, b64},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap as _,
};

use super::{
    algorithm::HashAlg,
    check::Check,
    eventlog::LOG_MAX,
    quote::{Pcrs, REGISTERS},
};

/// Largest report, in bytes of JSON: the largest event log in base64 and room for the rest.
pub const REPORT_MAX: usize = LOG_MAX / 3 * 4 + 16 * 1024;

/// What an attester sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// `TPMS_ATTEST`, as the TPM gave it.
    #[serde(with = "b64")]
    pub quote: Vec<u8>,
    /// `TPMT_SIGNATURE` over it.
    #[serde(with = "b64")]
    pub signature: Vec<u8>,
    /// `TPMT_PUBLIC` of the attestation key.
    #[serde(with = "b64")]
    pub ak: Vec<u8>,
    /// Values of the quoted registers, by bank (`sha256`) and index, in lower-case hexadecimal.
    #[serde(with = "pcrs")]
    pub pcrs: Pcrs,
    /// TCG2 event log, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_b64")]
    pub log: Option<Vec<u8>>,
}

impl Report {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] writes.
    ///
    /// # Errors
    /// `tpm.report`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.len() > REPORT_MAX {
            return Err(Check::Report
                .refuse("size of the report", format!("at most {REPORT_MAX} bytes"), bytes.len())
                .fix("send the events up to the start of the operating system alone"));
        }
        serde_json::from_slice(bytes).map_err(|e| {
            Check::Report
                .refuse("form of the report", "JSON of a TPM report of this version", e)
                .fix("run agent and verifier of one version")
        })
    }
}

/// `#[serde(with = "pcrs")]` for values of registers. Nothing may be there twice, and every value has its bank's length.
pub(crate) mod pcrs {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(pcrs: &Pcrs, s: S) -> Result<S::Ok, S::Error> {
        struct Bank<'a>(&'a BTreeMap<u8, Vec<u8>>);
        impl Serialize for Bank<'_> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut map = s.serialize_map(Some(self.0.len()))?;
                for (register, value) in self.0 {
                    map.serialize_entry(register, &encoding::hex(value))?;
                }
                map.end()
            }
        }
        let mut map = s.serialize_map(Some(pcrs.len()))?;
        for (bank, values) in pcrs {
            map.serialize_entry(bank, &Bank(values))?;
        }
        map.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Pcrs, D::Error> {
        let banks: Once<HashAlg, Once<u8, String>> = Once::deserialize(d)?;
        let mut out = Pcrs::new();
        for (bank, values) in banks.0 {
            for (register, text) in values.0 {
                let value = encoding::unhex(&text).map_err(D::Error::custom)?;
                if register >= REGISTERS || value.len() != bank.size() {
                    let what = format!("register {register} of {bank} with {} bytes", value.len());
                    return Err(D::Error::custom(what));
                }
                out.entry(bank).or_default().insert(register, value);
            }
        }
        Ok(out)
    }

    /// A map that refuses a key that comes twice: the last one would win silently.
    struct Once<K, V>(BTreeMap<K, V>);

    impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Once<K, V> {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            struct Entries<K, V>(std::marker::PhantomData<(K, V)>);
            impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
                type Value = Once<K, V>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a map without a key that comes twice")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut out = BTreeMap::new();
                    while let Some((key, value)) = map.next_entry()? {
                        if out.insert(key, value).is_some() {
                            return Err(A::Error::custom("a key comes twice"));
                        }
                    }
                    Ok(Once(out))
                }
            }
            d.deserialize_map(Entries(std::marker::PhantomData))
        }
    }
}

/// `#[serde(with = "optional_b64")]` for optional bytes in base64.
pub(crate) mod optional_b64 {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => b64::serialize(bytes, s),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| encoding::unbase64(&text).map_err(D::Error::custom)).transpose()
    }
}
