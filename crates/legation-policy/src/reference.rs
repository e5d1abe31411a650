//! Reference values: what images measure, and which firmware is current. Named, owned and dated.
//!
//! [`References::new`] makes these checks:
//!
//! 1. `reference.count`: there are at most [`REFERENCES_MAX`].
//! 2. `reference.name`: every name is of the form [`NAME_RULE`] says, and is there once.
//! 3. `reference.text`: owner and source are one line of at most [`OWNER_MAX`] and [`SOURCE_MAX`] bytes.
//! 4. `reference.value`: a measurement is as long as its kinds of machines measure, in lower-case hexadecimal; a firmware's
//!    version is one of its product.
//! 5. `reference.dates`: a new one does not expire before it was made.

use std::collections::{BTreeMap, BTreeSet};

use legation_attest::snp::{Product, TcbVersion};
use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{Claims, Shortfall, Tcb, TcbStatus, TeeKind},
    encoding,
};
use serde::{Deserialize, Serialize};

use crate::scan;

/// Most reference values at once.
pub const REFERENCES_MAX: usize = 4096;
/// Longest name of a reference value, rule or policy, in bytes.
pub const NAME_MAX: usize = 63;
/// Longest owner, in bytes.
pub const OWNER_MAX: usize = 128;
/// Longest source, in bytes.
pub const SOURCE_MAX: usize = 256;
/// How names look.
pub const NAME_RULE: &str = "1 to 63 of a-z, 0-9, `-` and `.`, beginning with a letter or digit";

/// A value to hold evidence against, with who answers for it and for how long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceValue {
    /// Its name; a policy says `Image::"NAME"`.
    pub name: String,
    /// What it says.
    pub value: ReferenceKind,
    /// Who answers for it.
    pub owner: String,
    /// When it was made.
    pub made: UnixTime,
    /// Last second it counts; for ever without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixTime>,
    /// Where it comes from, such as `enclave 3f2a..` or `file agent.bin`.
    pub source: String,
}

/// What a reference value says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReferenceKind {
    /// What an image measures.
    Image {
        /// Lower-case hexadecimal: 32, 48 or 64 bytes, by kind of machine.
        measurement: String,
        /// On machines of which kinds; at least one.
        tees: BTreeSet<TeeKind>,
    },
    /// From which version on firmware of AMD's SEV-SNP is up to date: AMD publishes no such status.
    Firmware {
        /// Of which product.
        product: Product,
        /// Every component is at least this.
        minimum: TcbVersion,
    },
}

impl ReferenceValue {
    /// Whether it counts at `at`.
    pub fn holds_at(&self, at: UnixTime) -> bool {
        self.expires.is_none_or(|end| at <= end)
    }

    /// Checks 2 to 5 of the module's list, but for doubles.
    ///
    /// # Errors
    /// The first check that refuses.
    pub fn check(&self) -> Result<(), Rejection> {
        let refuse = |check: &str, claim: &str| {
            let name: String = self.name.chars().take(NAME_MAX).collect();
            Rejection::new(check, format!("{claim} of reference value `{}`", name.escape_debug()))
        };
        if !is_name(&self.name) {
            return Err(refuse("reference.name", "name").expected(NAME_RULE).fix("choose another name"));
        }
        for (what, text, max) in [("owner", &self.owner, OWNER_MAX), ("source", &self.source, SOURCE_MAX)] {
            if text.trim().is_empty() || text.len() > max || text.chars().any(char::is_control) {
                return Err(refuse("reference.text", what)
                    .expected(format!("1 to {max} bytes on one line"))
                    .got(format!("{} bytes", text.len()))
                    .fix(format!("write another {what}")));
            }
        }
        if let Some(expires) = self.expires
            && expires < self.made
        {
            return Err(refuse("reference.dates", "expiry")
                .expected(format!("after it was made at {}", self.made))
                .got(expires)
                .fix("give a later date"));
        }
        match &self.value {
            ReferenceKind::Image { measurement, tees } => {
                let bytes = encoding::unhex(measurement).map(|b| b.len());
                let fits = bytes.as_ref().is_ok_and(|n| tees.iter().all(|tee| lengths(*tee).contains(n)));
                if tees.is_empty() || !fits {
                    let tees: Vec<_> = tees.iter().map(|t| format!("{t}: {:?} bytes", lengths(*t))).collect();
                    let tees =
                        if tees.is_empty() { "at least one kind of machine".to_owned() } else { tees.join(", ") };
                    return Err(refuse("reference.value", "measurement")
                        .expected(format!("lower-case hexadecimal ({tees})"))
                        .got(format!("{} characters", measurement.len()))
                        .fix("give the launch measurement, and the kinds of machines that measure like this"));
                }
            }
            ReferenceKind::Firmware { product, minimum } => {
                if minimum.fmc.is_some() != (*product == Product::Turin) {
                    return Err(refuse("reference.value", "firmware version")
                        .expected(format!("one of {product}: fmcSPL is Turin's alone"))
                        .got(minimum)
                        .fix("give the version as the chip's reports have it"));
                }
            }
        }
        Ok(())
    }
}

/// Whether `name` can name a reference value, a rule or a policy.
pub fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|b| letter(b) || b == b'-' || b == b'.')
        && name.bytes().next().is_some_and(letter)
}

/// Bytes that a kind of machine measures an image to: SHA-256 of SGX and of a TPM's quoted registers, SHA-384 of the others;
/// Nitro's PCRs may be of any of the three.
const fn lengths(tee: TeeKind) -> &'static [usize] {
    match tee {
        TeeKind::SevSnp | TeeKind::DevSnp | TeeKind::Tdx => &[48],
        TeeKind::Sgx | TeeKind::Tpm | TeeKind::DevTpm => &[32],
        TeeKind::AzSnpVtpm | TeeKind::AzTdxVtpm => &[32, 48],
        TeeKind::Nitro => &[32, 48, 64],
    }
}

/// All reference values, found by name and by measurement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct References {
    values: BTreeMap<String, ReferenceValue>,
    /// Names of the images of this measurement.
    images: BTreeMap<String, BTreeSet<String>>,
    /// Names of the firmware values of this product.
    firmware: BTreeMap<Product, BTreeSet<String>>,
}

impl References {
    /// Takes values in.
    ///
    /// # Errors
    /// The first check of the module's list that refuses.
    pub fn new(values: impl IntoIterator<Item = ReferenceValue>) -> Result<Self, Rejection> {
        let mut all = Self::default();
        for value in values {
            all.add(value)?;
        }
        Ok(all)
    }

    /// Reads a JSON list of values.
    ///
    /// # Errors
    /// `reference.file`, or the first check of the module's list that refuses.
    pub fn from_json(text: &str) -> Result<Self, Rejection> {
        let values: Vec<ReferenceValue> = serde_json::from_str(text).map_err(|e| {
            Rejection::new("reference.file", "reference values")
                .expected("a JSON list of reference values")
                .got(e)
                .fix("see docs/policy.md for their form")
        })?;
        Self::new(values)
    }

    /// A value for every image that the words of a policy name, of a measurement that no machine has: to check a text where
    /// no reference values are at hand.
    pub fn assumed(text: &str) -> Self {
        let tokens = scan::tokens(text);
        let images = tokens.windows(3).filter_map(|words| match words {
            [image, colons, name] if image.is("Image") && colons.is("::") => name.plain(),
            _ => None,
        });
        let mut all = Self::default();
        for name in images {
            let value = ReferenceKind::Image { measurement: "00".repeat(48), tees: [TeeKind::SevSnp].into() };
            let (owner, source) = ("nobody".to_owned(), "assumed".to_owned());
            // A name that is none, or is there already, is not taken in.
            let made = UnixTime(0);
            let _ = all.add(ReferenceValue { name: name.to_owned(), value, owner, made, expires: None, source });
        }
        all
    }

    /// Adds a value.
    ///
    /// # Errors
    /// The first check of the module's list that refuses.
    pub fn add(&mut self, value: ReferenceValue) -> Result<(), Rejection> {
        value.check()?;
        if self.values.len() >= REFERENCES_MAX {
            return Err(Rejection::new("reference.count", "number of reference values")
                .expected(format!("at most {REFERENCES_MAX}"))
                .fix("remove some that expired"));
        }
        if let Some(known) = self.values.get(&value.name) {
            return Err(Rejection::new("reference.name", format!("reference value `{}`", value.name))
                .expected("a name that is not taken")
                .got(format!("one of {} made at {}", known.owner, known.made))
                .fix("choose another name, or let the old one expire first"));
        }
        match &value.value {
            ReferenceKind::Image { measurement, .. } => {
                self.images.entry(measurement.clone()).or_default().insert(value.name.clone());
            }
            ReferenceKind::Firmware { product, .. } => {
                self.firmware.entry(*product).or_default().insert(value.name.clone());
            }
        }
        self.values.insert(value.name.clone(), value);
        Ok(())
    }

    /// Removes a value.
    pub fn remove(&mut self, name: &str) -> Option<ReferenceValue> {
        let value = self.values.remove(name)?;
        for names in self.images.values_mut().chain(self.firmware.values_mut()) {
            names.remove(name);
        }
        self.images.retain(|_, names| !names.is_empty());
        self.firmware.retain(|_, names| !names.is_empty());
        Some(value)
    }

    /// Lets a value count no longer than until `end`. Gives whether there is one of that name.
    pub fn expire(&mut self, name: &str, end: UnixTime) -> bool {
        let Some(value) = self.values.get_mut(name) else { return false };
        value.expires = Some(value.expires.map_or(end, |before| before.min(end)));
        true
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&ReferenceValue> {
        self.values.get(name)
    }

    /// All values, by name.
    pub fn iter(&self) -> impl Iterator<Item = &ReferenceValue> {
        self.values.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// SHA-256 of all values: what a verdict rests on beside the policy's text.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(&self.values).unwrap_or_default())
    }

    /// Names of the images that `claims` are of and that count at `at`, ascending.
    pub fn images_of<'a>(&'a self, claims: &Claims, at: UnixTime) -> impl Iterator<Item = &'a str> {
        let names = self.images.get(&claims.measurement.value).into_iter().flatten();
        let tee = claims.tee.value;
        names.filter_map(move |name| {
            let value = self.values.get(name)?;
            let covers = matches!(&value.value, ReferenceKind::Image { tees, .. } if tees.contains(&tee));
            (covers && value.holds_at(at)).then_some(name.as_str())
        })
    }

    /// An image of this measurement that no longer counts at `at`.
    pub(crate) fn expired_image(&self, measurement: &str, at: UnixTime) -> Option<&ReferenceValue> {
        let names = self.images.get(measurement)?;
        names.iter().filter_map(|name| self.values.get(name)).find(|value| !value.holds_at(at))
    }

    /// The machine's security version as of `at`: where its vendor publishes no status (AMD's SEV-SNP), held against the
    /// firmware values of its product. Several count together: each component must reach the highest of them.
    pub fn tcb(&self, claims: &Claims, at: UnixTime) -> Tcb {
        let tcb = &claims.tcb.value;
        self.graded(claims, tcb, at).unwrap_or_else(|| tcb.clone())
    }

    fn graded(&self, claims: &Claims, tcb: &Tcb, at: UnixTime) -> Option<Tcb> {
        if tcb.status != TcbStatus::Unknown {
            return None;
        }
        let product: Product = claims.product.value.parse().ok()?;
        let has: TcbVersion = tcb.version.parse().ok()?;
        let values = self.firmware.get(&product)?.iter().filter_map(|name| self.values.get(name));
        let minimum = values.filter(|v| v.holds_at(at)).filter_map(|v| match &v.value {
            ReferenceKind::Firmware { minimum, .. } => Some(*minimum),
            ReferenceKind::Image { .. } => None,
        });
        let needs = minimum.reduce(|a, b| TcbVersion {
            fmc: a.fmc.max(b.fmc),
            bootloader: a.bootloader.max(b.bootloader),
            tee: a.tee.max(b.tee),
            snp: a.snp.max(b.snp),
            microcode: a.microcode.max(b.microcode),
        })?;
        let components = [
            ("fmc", has.fmc.unwrap_or(0), needs.fmc.unwrap_or(0)),
            ("bootloader", has.bootloader, needs.bootloader),
            ("tee", has.tee, needs.tee),
            ("snp", has.snp, needs.snp),
            ("microcode", has.microcode, needs.microcode),
        ];
        let behind = components.into_iter().filter(|(_, has, needs)| has < needs);
        let shortfall: Vec<_> = behind
            .map(|(component, has, needs)| Shortfall {
                component: component.to_owned(),
                has: u64::from(has),
                needs: u64::from(needs),
            })
            .collect();
        let status = if shortfall.is_empty() { TcbStatus::UpToDate } else { TcbStatus::OutOfDate };
        Some(Tcb { status, shortfall, ..tcb.clone() })
    }
}
