//! The key in the token: made, found, judged, and signed with. Checks 4 to 7 of [`super`].

use std::fmt;

use cryptoki::{
    error::Error,
    mechanism::{
        Mechanism, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use legation_core::{PublicKey, Signature};
use legation_keys::Entropy;

use super::{
    Address, HsmError, Pin,
    token::{Access, Token, other},
};

/// The curve, as `CKA_EC_PARAMS`: DER of the object identifier 1.3.101.112 (RFC 8410).
const ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// What stands before the 32 bytes of a public key that is a DER octet string.
const OCTET_STRING: [u8; 2] = [0x04, 0x20];
/// What a key signs when it is opened, so that its public half is known to be its own. No statement begins so (they are DSSE).
const PROBE: &[u8] = b"legation: does this public key belong to this private key?";

/// An Ed25519 key in a token, which is logged in.
pub struct TokenKey {
    token: Token,
    private: ObjectHandle,
    public: PublicKey,
    address: Address,
}

impl TokenKey {
    /// Makes a key in the token that can never leave it.
    ///
    /// # Errors
    /// The checks of [`super`], or the token has a key of this label.
    pub fn make(address: &Address, pin: Option<&Pin>, entropy: &mut dyn Entropy) -> Result<Self, HsmError> {
        let token = Token::open(address, pin, Access::Write)?;
        token.must_know(&[
            (MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, "CKM_EC_EDWARDS_KEY_PAIR_GEN"),
            (MechanismType::EDDSA, "CKM_EDDSA"),
        ])?;
        let label = Attribute::Label(address.key.clone().into_bytes());
        let said = |e: Error| other(&token.label, &e);
        // Any object of this label, so that none is taken for the other half later.
        if !token.session.find_objects(&[Attribute::Token(true), label.clone()]).map_err(said)?.is_empty() {
            return Err(HsmError::AlreadyThere { token: token.label, key: address.key.clone() });
        }
        let mut id = vec![0; 16];
        entropy.fill(&mut id);
        let id = Attribute::Id(id);
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(ED25519.to_vec()),
            label.clone(),
            id.clone(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            // To sign is all that it is for; tokens have defaults of their own.
            Attribute::SignRecover(false),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
            label,
            id,
        ];
        let halves =
            token.session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private).map_err(said)?;
        match Self::found(&token, address) {
            Ok((private, public)) => Ok(Self::of(token, address, private, public)),
            Err(why) => {
                // Nobody has seen it, and the next attempt would find it in its way. What cannot be removed then says so.
                let _removed = [halves.0, halves.1].map(|half| token.session.destroy_object(half));
                Err(why)
            }
        }
    }

    /// Opens the key that the token has.
    ///
    /// # Errors
    /// The checks of [`super`].
    pub fn open(address: &Address, pin: Option<&Pin>) -> Result<Self, HsmError> {
        let token = Token::open(address, pin, Access::Read)?;
        token.must_know(&[(MechanismType::EDDSA, "CKM_EDDSA")])?;
        let (private, public) = Self::found(&token, address)?;
        Ok(Self::of(token, address, private, public))
    }

    fn of(token: Token, address: &Address, private: ObjectHandle, public: PublicKey) -> Self {
        let address = Address { serial: Some(token.serial.clone()), ..address.clone() };
        Self { token, private, public, address }
    }

    /// Checks 4 to 6.
    fn found(token: &Token, address: &Address) -> Result<(ObjectHandle, PublicKey), HsmError> {
        let named = || (token.label.clone(), address.key.clone());
        let said = |e: Error| other(&token.label, &e);
        let label = Attribute::Label(address.key.clone().into_bytes());
        let private = one(token, &address.key, "private", &[class(ObjectClass::PRIVATE_KEY), edwards(), label])?;
        let wanted = [
            AttributeType::Id,
            AttributeType::Local,
            AttributeType::Sensitive,
            AttributeType::AlwaysSensitive,
            AttributeType::Extractable,
            AttributeType::NeverExtractable,
            AttributeType::AlwaysAuthenticate,
        ];
        let known = token.session.get_attributes(private, &wanted).map_err(said)?;
        let missing = guards(&known);
        if let Some((attribute, expected)) = missing {
            let (token, key) = named();
            return Err(HsmError::Unguarded { token, key, attribute, expected });
        }
        if known.contains(&Attribute::AlwaysAuthenticate(true)) {
            let (token, key) = named();
            return Err(HsmError::EachTime { token, key });
        }
        let no_public = || {
            let (token, key) = named();
            HsmError::NoKey { token, key, half: "public" }
        };
        let id = known.into_iter().filter(|attribute| matches!(attribute, Attribute::Id(id) if !id.is_empty()));
        let mut template = vec![class(ObjectClass::PUBLIC_KEY), edwards()];
        template.extend(id);
        if template.len() == 2 {
            return Err(no_public());
        }
        let half = one(token, &address.key, "public", &template)?;
        let known = token.session.get_attributes(half, &[AttributeType::EcPoint]).map_err(said)?;
        let public = known.iter().find_map(point).ok_or_else(no_public)?;
        signed(token, address, private, public, PROBE)?;
        Ok((private, public))
    }

    /// Check 7.
    ///
    /// # Errors
    /// It is another key.
    pub fn must_be(&self, expected: PublicKey) -> Result<(), HsmError> {
        if self.public == expected {
            return Ok(());
        }
        let (token, key) = (self.token.label.clone(), self.address.key.clone());
        Err(HsmError::WrongKey { token, key, expected, got: self.public })
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Where it is, with the serial number of its token.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Signs `message` (RFC 8032, Ed25519 and no variant of it), and verifies the signature.
    ///
    /// # Errors
    /// The token is gone, refuses, or gives what is no signature.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, HsmError> {
        signed(&self.token, &self.address, self.private, self.public, message)
    }
}

/// A signature, verified.
fn signed(
    token: &Token,
    address: &Address,
    private: ObjectHandle,
    public: PublicKey,
    message: &[u8],
) -> Result<Signature, HsmError> {
    // Whether the token still finds the key.
    let is_there = || {
        let label = Attribute::Label(address.key.clone().into_bytes());
        let found = token.session.find_objects(&[class(ObjectClass::PRIVATE_KEY), edwards(), label]);
        found.is_ok_and(|found| found.contains(&private))
    };
    let pure = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
    let bytes = token.session.sign(&pure, private, message).map_err(|error| token.failed(&error, is_there))?;
    let signature = <[u8; 64]>::try_from(bytes).ok().map(Signature);
    signature
        .filter(|signature| public.verify(message, signature).is_ok())
        .ok_or_else(|| HsmError::BadSignature { token: token.label.clone(), key: address.key.clone() })
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({} in {:?})", self.public.id().short(), self.token.label)
    }
}

fn class(class: ObjectClass) -> Attribute {
    Attribute::Class(class)
}

fn edwards() -> Attribute {
    Attribute::KeyType(KeyType::EC_EDWARDS)
}

/// Check 4.
fn one(token: &Token, key: &str, half: &'static str, template: &[Attribute]) -> Result<ObjectHandle, HsmError> {
    let mut found = token.session.find_objects(template).map_err(|e| other(&token.label, &e))?;
    let (token, key) = (token.label.clone(), key.to_owned());
    match (found.len(), found.pop()) {
        (1, Some(handle)) => Ok(handle),
        (0, _) => Err(HsmError::NoKey { token, key, half }),
        (count, _) => Err(HsmError::DuplicateKey { token, key, count, half }),
    }
}

/// Check 5: the first property that is not as it should be, and how it should be. A token that leaves one out has not said it.
fn guards(known: &[Attribute]) -> Option<(&'static str, bool)> {
    let said = |expected: bool, is: fn(&Attribute) -> Option<bool>| known.iter().find_map(is) == Some(expected);
    let checks = [
        ("CKA_LOCAL", true, said(true, |a| if let Attribute::Local(is) = a { Some(*is) } else { None })),
        ("CKA_SENSITIVE", true, said(true, |a| if let Attribute::Sensitive(is) = a { Some(*is) } else { None })),
        (
            "CKA_ALWAYS_SENSITIVE",
            true,
            said(true, |a| if let Attribute::AlwaysSensitive(is) = a { Some(*is) } else { None }),
        ),
        ("CKA_EXTRACTABLE", false, said(false, |a| if let Attribute::Extractable(is) = a { Some(*is) } else { None })),
        (
            "CKA_NEVER_EXTRACTABLE",
            true,
            said(true, |a| if let Attribute::NeverExtractable(is) = a { Some(*is) } else { None }),
        ),
    ];
    checks.into_iter().find(|(_, _, fine)| !fine).map(|(attribute, expected, _)| (attribute, expected))
}

/// The public key: the 32 bytes, or a DER octet string of them. Tokens do either.
fn point(attribute: &Attribute) -> Option<PublicKey> {
    let Attribute::EcPoint(bytes) = attribute else { return None };
    let raw = if bytes.len() == 34 { bytes.strip_prefix(&OCTET_STRING)? } else { bytes };
    <[u8; 32]>::try_from(raw).ok().map(PublicKey::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_32_bytes_or_an_octet_string_of_them() {
        let raw = [7; 32];
        let read = |bytes: Vec<u8>| point(&Attribute::EcPoint(bytes)).map(|key| *key.as_bytes());
        assert_eq!(read(raw.to_vec()), Some(raw));
        assert_eq!(read([&OCTET_STRING[..], &raw].concat()), Some(raw));
        for wrong in [vec![], vec![7; 31], vec![7; 33], vec![7; 34], vec![7; 64]] {
            assert_eq!(read(wrong.clone()), None, "{wrong:?}");
        }
        assert_eq!(point(&Attribute::Value(raw.to_vec())), None);
    }

    #[test]
    fn a_key_must_be_said_to_have_been_in_the_token_always() {
        let good = [
            Attribute::Local(true),
            Attribute::Sensitive(true),
            Attribute::AlwaysSensitive(true),
            Attribute::Extractable(false),
            Attribute::NeverExtractable(true),
        ];
        assert_eq!(guards(&good), None);
        for at in 0..good.len() {
            let mut without = good.to_vec();
            let left = without.remove(at);
            assert!(guards(&without).is_some(), "nothing is said of {left:?}");
            without.push(match left {
                Attribute::Local(_) => Attribute::Local(false),
                Attribute::Sensitive(_) => Attribute::Sensitive(false),
                Attribute::AlwaysSensitive(_) => Attribute::AlwaysSensitive(false),
                Attribute::Extractable(_) => Attribute::Extractable(true),
                _ => Attribute::NeverExtractable(false),
            });
            assert!(guards(&without).is_some(), "{without:?}");
        }
    }
}
