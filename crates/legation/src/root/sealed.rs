//! A root in a file that a passphrase opens.
//!
//! ```text
//! key    = PBKDF2-HMAC-SHA256(passphrase, salt, iterations), 32 bytes      (RFC 8018)
//! sealed = AES-256-GCM(key, nonce 0, PKCS#8 of the root, aad)              (a salt is drawn for each file, so a key seals once)
//! aad    = "legation operator root v1" | iterations, big-endian | salt | public key
//! ```
//!
//! A passphrase is tried as fast as whoever has the file can derive keys, so it should be long and drawn by chance. It is in no text of
//! this module.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    pbkdf2,
};
use legation_core::{PublicKey, Signer, encoding};
use legation_keys::{Entropy, IdentityKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret;

/// Iterations of a file that is made now: what OWASP asks of PBKDF2-HMAC-SHA256 since 2023.
const ITERATIONS: u32 = 600_000;
/// Most iterations that a file may ask for: some seconds.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Least and most bytes of a passphrase.
const PASSPHRASE_MIN: usize = 12;
const PASSPHRASE_MAX: usize = 1024;
const SALT_LEN: usize = 16;
const DOMAIN: &[u8] = b"legation operator root v1";

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedFile {
    /// The key that is sealed.
    public_key: PublicKey,
    /// Of PBKDF2-HMAC-SHA256.
    iterations: u32,
    /// In hexadecimal.
    salt: String,
    /// PKCS#8 of the key and a tag, in hexadecimal.
    sealed: String,
    /// File with the passphrase. Whoever moves it says so here; nothing vouches for this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase_file: Option<PathBuf>,
}

/// The passphrase in a file of its owner alone.
fn passphrase(path: &Path) -> Result<Zeroizing<String>, String> {
    let wrong = |why: String| format!("the passphrase cannot be read from {}: {why}", path.display());
    let text = secret::read(path, PASSPHRASE_MAX).map_err(wrong)?;
    if text.len() < PASSPHRASE_MIN {
        return Err(wrong(format!("it is shorter than {PASSPHRASE_MIN} bytes")));
    }
    Ok(text)
}

impl SealedFile {
    /// Seals a key by the passphrase in a file.
    ///
    /// # Errors
    /// The passphrase cannot be read, or is none.
    pub(super) fn seal(key: &IdentityKey, path: &Path, entropy: &mut dyn Entropy) -> Result<Self, String> {
        let passphrase = passphrase(path)?;
        let mut salt = [0; SALT_LEN];
        entropy.fill(&mut salt);
        let public_key = key.public_key();
        let der = key.pkcs8();
        // It does not grow: nothing is left behind that is not sealed.
        let mut buffer = Zeroizing::new(Vec::with_capacity(der.len() + AES_256_GCM.tag_len()));
        buffer.extend_from_slice(&der);
        let (cipher, aad) = opener(&passphrase, ITERATIONS, &salt, public_key)?;
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        cipher.seal_in_place_append_tag(nonce, Aad::from(aad), &mut *buffer).map_err(|_| "sealing failed")?;
        Ok(Self {
            public_key,
            iterations: ITERATIONS,
            salt: encoding::hex(&salt),
            sealed: encoding::hex(&buffer),
            passphrase_file: Some(path.to_owned()),
        })
    }

    /// The key.
    ///
    /// # Errors
    /// The file is not what it should be, or the passphrase is another one.
    pub(super) fn open(&self) -> Result<IdentityKey, String> {
        let salt: [u8; SALT_LEN] = encoding::unhex_array(&self.salt).map_err(|e| format!("salt: {e}"))?;
        let mut buffer = Zeroizing::new(encoding::unhex(&self.sealed).map_err(|e| format!("sealed: {e}"))?);
        let path =
            self.passphrase_file.as_deref().ok_or("sealed: say where its passphrase is with `passphrase_file`")?;
        let (cipher, aad) = opener(&passphrase(path)?, self.iterations, &salt, self.public_key)?;
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let der = cipher
            .open_in_place(nonce, Aad::from(aad), &mut buffer)
            .map_err(|_| "the passphrase does not open it, or it was altered")?;
        let key = IdentityKey::from_pkcs8(der).map_err(|e| e.to_string())?;
        if key.public_key() == self.public_key { Ok(key) } else { Err("it holds another key than it says".to_owned()) }
    }
}

fn opener(
    passphrase: &str,
    iterations: u32,
    salt: &[u8; SALT_LEN],
    public_key: PublicKey,
) -> Result<(LessSafeKey, Vec<u8>), String> {
    let fine = (ITERATIONS..=ITERATIONS_MAX).contains(&iterations);
    let number = NonZeroU32::new(iterations).filter(|_| fine);
    let number = number.ok_or_else(|| format!("{iterations} iterations, expected {ITERATIONS} to {ITERATIONS_MAX}"))?;
    let mut key = Zeroizing::new([0_u8; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, number, salt, passphrase.as_bytes(), &mut key[..]);
    let key = UnboundKey::new(&AES_256_GCM, &key[..]).map_err(|_| "AES-256-GCM takes no key")?;
    let aad = [DOMAIN, &iterations.to_be_bytes(), salt, public_key.as_bytes()].concat();
    Ok((LessSafeKey::new(key), aad))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use legation_net::OsEntropy;

    use super::*;

    #[test]
    fn a_passphrase_seals_a_key_and_alone_opens_it() {
        let dir = tempfile::tempdir().unwrap();
        let secret = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let path = secret("passphrase", "correct horse battery\n", 0o600);
        let key = IdentityKey::from_seed([7; 32]);
        let file = SealedFile::seal(&key, &path, &mut OsEntropy).unwrap();
        let text = toml::to_string(&file).unwrap();
        assert!(!text.contains("horse") && !text.contains(&"07".repeat(8)), "{text}");
        let read = |text: &str| toml::from_str::<SealedFile>(text).unwrap().open().map(|key| key.public_key());
        assert_eq!(read(&text), Ok(key.public_key()));
        // The same key, sealed again, looks like another.
        let again = SealedFile::seal(&key, &path, &mut OsEntropy).unwrap();
        assert!(again.salt != file.salt && again.sealed != file.sealed);

        let other = IdentityKey::from_seed([8; 32]).public_key().to_string();
        let last = file.sealed.clone() + "\"";
        let flipped = if file.sealed.ends_with('0') { "1\"" } else { "0\"" };
        let altered = last[..last.len() - 2].to_owned() + flipped;
        for (from, to, why) in [
            (key.public_key().to_string(), other, "does not open it"),
            (last, altered, "does not open it"),
            (file.salt.clone(), again.salt.clone(), "does not open it"),
            ("600000".to_owned(), "600001".to_owned(), "does not open it"),
            ("600000".to_owned(), "1000".to_owned(), "1000 iterations, expected"),
            ("600000".to_owned(), "4000000000".to_owned(), "4000000000 iterations, expected"),
            (file.salt.clone(), "00".to_owned(), "salt: "),
            (file.sealed.clone(), "xy".to_owned(), "sealed: "),
            (file.sealed.clone(), String::new(), "does not open it"),
        ] {
            assert!(text.contains(&from), "{from}");
            let said = read(&text.replace(&from, &to)).unwrap_err();
            assert!(said.contains(why) && !said.contains("horse"), "{said}");
        }
        let fresh = |name: &str, text: &str, mode: u32| {
            let path = secret(name, text, mode);
            (SealedFile { passphrase_file: Some(path), ..toml::from_str(&text_of(&file)).unwrap() }).open()
        };
        for (name, text, mode, why) in [
            ("another", "correct horse batterz\n", 0o600, "does not open it"),
            ("open", "correct horse battery\n", 0o640, "chmod 600"),
            ("short", "horse\n", 0o600, "shorter than 12"),
            ("empty", "", 0o600, "it is empty"),
            ("lines", "correct horse\nbattery\n", 0o600, "one line"),
        ] {
            let said = fresh(name, text, mode).map(drop).unwrap_err();
            assert!(said.contains(why) && !said.contains("horse"), "{said}");
        }
        let lost = SealedFile { passphrase_file: None, ..toml::from_str(&text_of(&file)).unwrap() };
        assert!(lost.open().map(drop).unwrap_err().contains("passphrase_file"));
        assert!(SealedFile::seal(&key, &dir.path().join("none"), &mut OsEntropy).is_err());
    }

    fn text_of(file: &SealedFile) -> String {
        toml::to_string(file).unwrap()
    }
}
