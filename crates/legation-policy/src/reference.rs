//! Reference values: what images measure, and which firmware is current. Named, owned and dated.
//!
//! [`References::new`] makes these checks:
//!
//! 1. `reference.count`: there are at most [`REFERENCES_MAX`].
//! 2. `reference.name`: every name is of the form [`NAME_RULE`] says, and is there once.
//! 3. `reference.text`: owner and source are one line of at most [`OWNER_MAX`] and [`SOURCE_MAX`] bytes.
//! 4. `reference.value`: a measurement is as long as its kinds of machines measure, in lower-case hexadecimal; a firmware's
//!    version is one of its product.
//! 5. `reference.registers`: registers have names and values that registers can have, and where a kind's measurement is not
//!    of the guest (TDX: the virtual firmware; Azure: the paravisor), those into which a guest is measured are among them.
//! 6. `reference.dates`: none expires before it was made; one that was ended in that very second never counted.

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
/// Most registers of an image.
pub const REGISTERS_MAX: usize = 32;
/// Longest name of a register, and longest value of one, in bytes.
const REGISTER_NAME_MAX: usize = 32;
const REGISTER_MAX: usize = 64;
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
        /// Values that further registers must have, by name (`rtmr1`, `pcr4`), lower-case hexadecimal. Where the measurement
        /// is not of the guest, these are.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        registers: BTreeMap<String, String>,
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

impl ReferenceKind {
    /// The image that `claims` are of, on their kind of machine: its measurement, and where that is not of the guest, the
    /// registers that are, as far as the claims have them. On TDX those are `rtmr0` (configuration of the virtual firmware),
    /// `rtmr1` and `rtmr2` (what it started: loader, kernel, initial file system, command line); under Azure's paravisor
    /// `pcr4` (loader and kernel), `pcr8`, `pcr9` (what GRUB ran and read), `pcr11`, `pcr12` (unified kernel images, their
    /// command line) and `pcr14` (keys of the machine's owner in shim); of a TPM `pcr8` to `pcr15` where they were quoted.
    ///
    /// # Errors
    /// `reference.registers`: one of the registers that tell guests of this kind apart was not quoted. What is not there, a
    /// guest may have changed.
    pub fn image_of(claims: &Claims) -> Result<Self, Rejection> {
        let tee = claims.tee.value;
        let mut registers = BTreeMap::new();
        for name in of_guest(tee).taken {
            let value = claims.registers.get(*name).ok_or_else(|| {
                Rejection::new("reference.registers", format!("registers in the evidence of this {tee} machine"))
                    .expected(format!("{} among them", of_guest(tee).taken.join(", ")))
                    .got(format!("no {name}"))
                    .fix("have its agent quote all of them, and attest again")
            })?;
            registers.insert((*name).to_owned(), value.clone());
        }
        Ok(Self::Image { measurement: claims.measurement.value.clone(), registers, tees: [tee].into() })
    }
}

impl ReferenceValue {
    /// Whether it counts at `at`.
    pub fn holds_at(&self, at: UnixTime) -> bool {
        self.expires.is_none_or(|end| at <= end)
    }

    /// The first register that an image names and `claims` do not have, or have with another value.
    fn differs(&self, claims: &Claims) -> Option<&str> {
        let ReferenceKind::Image { registers, .. } = &self.value else { return None };
        let other = registers.iter().find(|(name, value)| claims.registers.get(*name) != Some(value));
        other.map(|(name, _)| name.as_str())
    }

    /// Checks 2 to 6 of the module's list, but for doubles.
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
            && expires.plus(1) < self.made
        {
            return Err(refuse("reference.dates", "expiry")
                .expected(format!("after it was made at {}", self.made))
                .got(expires)
                .fix("give a later date"));
        }
        match &self.value {
            ReferenceKind::Image { measurement, registers, tees } => {
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
                check_registers(registers, tees, refuse)?;
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

/// Check 5.
fn check_registers(
    registers: &BTreeMap<String, String>,
    tees: &BTreeSet<TeeKind>,
    refuse: impl Fn(&str, &str) -> Rejection,
) -> Result<(), Rejection> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let named = |name: &str| (1..=REGISTER_NAME_MAX).contains(&name.len()) && name.bytes().all(letter);
    let filled = |value: &str| encoding::unhex(value).is_ok_and(|bytes| (1..=REGISTER_MAX).contains(&bytes.len()));
    let bad = registers.iter().find(|(name, value)| !named(name) || !filled(value));
    if bad.is_some() || registers.len() > REGISTERS_MAX {
        return Err(refuse("reference.registers", "registers")
            .expected(format!(
                "at most {REGISTERS_MAX}, named like `pcr4`, of 1 to {REGISTER_MAX} bytes in lower-case hexadecimal"
            ))
            .got(bad.map_or_else(|| registers.len().to_string(), |(name, value)| format!("{name} {value}")))
            .fix("give registers as `legation enclave show` and evidence name them"));
    }
    for tee in tees {
        let OfGuest { measured, demanded, .. } = of_guest(*tee);
        // A register that nothing was measured into tells nothing from anything.
        let told = |name: &&str| registers.get(*name).is_some_and(|value| was_extended(value));
        let wanting = demanded.iter().find(|any| !any.iter().any(told));
        if let Some(any) = wanting {
            let has = match registers.len() {
                0 => "none".to_owned(),
                _ => registers.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            };
            return Err(refuse("reference.registers", "registers")
                .expected(format!(
                    "{} on {tee}, extended at boot: its measurement is of {measured}, not of the guest",
                    any.join(" or ")
                ))
                .got(has)
                .fix(
                    "take them from an enclave that runs the image (`--enclave`), or give them (`--register NAME=HEX`)",
                ));
        }
    }
    Ok(())
}

/// Whether anything was measured into a register: it is neither as at reset (zeros) nor as no boot leaves it (ones).
fn was_extended(value: &str) -> bool {
    !value.bytes().all(|b| b == b'0') && !value.bytes().all(|b| b == b'f')
}

/// What of a kind's claims is of the guest beside the measurement.
struct OfGuest {
    /// What the measurement is of.
    measured: &'static str,
    /// Registers that tell one guest from another. An image must name one of each group, extended: loader and kernel, and
    /// what they read.
    demanded: &'static [&'static [&'static str]],
    /// Registers that are taken from a running enclave.
    taken: &'static [&'static str],
}

const fn of_guest(tee: TeeKind) -> OfGuest {
    match tee {
        TeeKind::Tdx => OfGuest {
            measured: "the virtual firmware",
            demanded: &[&["rtmr1"], &["rtmr2"]],
            taken: &["rtmr0", "rtmr1", "rtmr2"],
        },
        TeeKind::AzSnpVtpm | TeeKind::AzTdxVtpm => OfGuest {
            measured: "Azure's paravisor",
            demanded: &[&["pcr4"], &["pcr9", "pcr11"]],
            taken: &["pcr4", "pcr8", "pcr9", "pcr11", "pcr12", "pcr14"],
        },
        // A TPM's measurement names the registers that were quoted, each with its bank and value.
        TeeKind::Tpm | TeeKind::DevTpm | TeeKind::SevSnp | TeeKind::DevSnp | TeeKind::Sgx | TeeKind::Nitro => {
            OfGuest { measured: "the guest", demanded: &[], taken: &[] }
        }
    }
}

/// Whether `name` can name a reference value, a rule or a policy.
pub fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|b| letter(b) || b == b'-' || b == b'.')
        && name.bytes().next().is_some_and(letter)
}

/// Bytes that a kind of machine measures an image to: SHA-256 of SGX and of a TPM's quoted registers, SHA-384 of the others
/// (on Azure, the hardware's measurement of the paravisor); Nitro's PCRs may be of any of the three.
const fn lengths(tee: TeeKind) -> &'static [usize] {
    match tee {
        TeeKind::SevSnp | TeeKind::DevSnp | TeeKind::Tdx | TeeKind::AzSnpVtpm | TeeKind::AzTdxVtpm => &[48],
        TeeKind::Sgx | TeeKind::Tpm | TeeKind::DevTpm => &[32],
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

    /// Reads a JSON list of values: bare ones, or as `legation reference list --output json` prints them, each in a
    /// `reference` with what the pool says of it beside, which is passed over.
    ///
    /// # Errors
    /// `reference.file`, or the first check of the module's list that refuses.
    pub fn from_json(text: &str) -> Result<Self, Rejection> {
        let refuse = |got: String| {
            Rejection::new("reference.file", "reference values")
                .expected("a JSON list of reference values")
                .got(got)
                .fix("see docs/policy.md for their form")
        };
        let entries: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|e| refuse(e.to_string()))?;
        let mut all = Self::default();
        for (index, mut entry) in entries.into_iter().enumerate() {
            let value = entry.get_mut("reference").map(serde_json::Value::take).unwrap_or(entry);
            let value = serde_json::from_value(value).map_err(|e| refuse(format!("value {}: {e}", index + 1)))?;
            all.add(value)?;
        }
        Ok(all)
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
            let (registers, tees) = (BTreeMap::new(), [TeeKind::SevSnp].into());
            let value = ReferenceKind::Image { measurement: "00".repeat(48), registers, tees };
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

    /// Lets a value count no longer than until `end`, nor at all if that was before it was made. Gives whether there is one
    /// of that name.
    pub fn expire(&mut self, name: &str, end: UnixTime) -> bool {
        let Some(value) = self.values.get_mut(name) else { return false };
        let end = end.max(value.made.minus(1));
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

    /// Names of the images that `claims` are of and that count at `at`, ascending: measurement and kind of machine are those
    /// of the image, and so is every register that it names.
    pub fn images_of<'a>(&'a self, claims: &Claims, at: UnixTime) -> impl Iterator<Item = &'a str> {
        let measured = self.measured(claims).filter(move |value| value.holds_at(at));
        measured.filter(|value| value.differs(claims).is_none()).map(|value| value.name.as_str())
    }

    /// Images of the measurement and kind of machine of `claims`, whatever their registers, ascending by name.
    fn measured<'a>(&'a self, claims: &Claims) -> impl Iterator<Item = &'a ReferenceValue> {
        let names = self.images.get(&claims.measurement.value).into_iter().flatten();
        let tee = claims.tee.value;
        let values = names.filter_map(|name| self.values.get(name));
        values.filter(move |value| matches!(&value.value, ReferenceKind::Image { tees, .. } if tees.contains(&tee)))
    }

    /// An image that `claims` are of and that no longer counts at `at`.
    pub(crate) fn expired_image(&self, claims: &Claims, at: UnixTime) -> Option<&ReferenceValue> {
        self.measured(claims).find(|value| !value.holds_at(at) && value.differs(claims).is_none())
    }

    /// An image that counts at `at` and is of the measurement of `claims`, but not of their registers, with the first that
    /// differs.
    pub(crate) fn other_guest(&self, claims: &Claims, at: UnixTime) -> Option<(&ReferenceValue, &str)> {
        let mut near = self.measured(claims).filter(|value| value.holds_at(at));
        near.find_map(|value| Some((value, value.differs(claims)?)))
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
