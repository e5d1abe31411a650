//! The operator's root: the key that appoints managers and verifiers and signs the charters of swarm keys, at which every receipt and
//! agent begins.
//!
//! It is a file (`operator.key`, mode 0600: PEM, or sealed by a passphrase), or a key in a hardware security module, of which the
//! deployment has a description alone (`operator.hsm.toml`): where the key is, its public half, perhaps the file with the PIN. Nothing
//! in that is secret; but it names a library that is loaded, so that nobody else may be able to write it. A root in a file is the key
//! to everything for whoever reads the file (and the passphrase); one in a token signs only while the token is there and its PIN is
//! known. What appoints takes either, and asks which nowhere. A folder has one root.

use std::{
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use legation_core::{Predicate, PublicKey, Signed, custody::Charter, dsse, statement::Appointment};
use legation_keys::{Entropy, IdentityKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

#[cfg(feature = "hsm")]
use crate::hsm::{Address, HsmError, Pin, TokenKey};
use crate::{
    exit::{Exit, Failure},
    home::write_secret,
};

mod sealed;

/// The root as a file of a deployment.
pub const KEY_FILE: &str = "operator.key";
/// What a deployment says of a root in a token.
pub const TOKEN_FILE: &str = "operator.hsm.toml";
/// Label that a root's key gets where nobody names one.
pub const KEY_LABEL: &str = "legation-root";
/// Longest file of a root, in bytes.
const FILE_MAX: u64 = 16 << 10;

/// A root that can appoint.
pub enum Root {
    /// In a file.
    File(IdentityKey),
    /// In a token.
    #[cfg(feature = "hsm")]
    Token(Box<TokenKey>),
}

/// What [`TOKEN_FILE`] holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Serial number of the token.
    pub serial: String,
    /// Label of the key.
    pub key: String,
    /// The key that must be there.
    pub public_key: PublicKey,
    /// File with the PIN; without it, the PIN is in the environment or typed at the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
}

/// The first lines of a file that a passphrase opens: it is known by them.
const SEALED_FILE_HEAD: &str = "# legation: an operator's root, sealed by a passphrase. See docs/hsm.md.\n";
/// What is said before the public part of a root in a token.
#[cfg(feature = "hsm")]
const TOKEN_FILE_HEAD: &str =
    "# The operator's root is a key in this token. Nothing here is secret. See docs/hsm.md.\n";

impl Root {
    /// Makes a root in a file of a deployment's folder, sealed by the passphrase in a file where one is named.
    ///
    /// # Errors
    /// The folder has a root already, the passphrase is none, or the disk failed.
    pub fn make_file(folder: &Path, passphrase: Option<&Path>, entropy: &mut dyn Entropy) -> Result<Self, Failure> {
        for name in [KEY_FILE, TOKEN_FILE] {
            must_lack(folder, name)?;
        }
        let key = IdentityKey::generate(entropy);
        let path = folder.join(KEY_FILE);
        match passphrase {
            None => write_secret(&path, &key.to_pem())?,
            Some(passphrase) => {
                let passphrase = absolute(passphrase)?;
                let file = sealed::SealedFile::seal(&key, &passphrase, entropy);
                let file = file.map_err(|why| Failure::new(Exit::Usage, why))?;
                let text = toml::to_string(&file).map_err(|e| Failure::new(Exit::Failure, e))?;
                write_secret(&path, &format!("{SEALED_FILE_HEAD}{text}"))?;
            }
        }
        Ok(Self::File(key))
    }

    /// Makes a root in a token, or takes the one that is there, and describes it in a deployment's folder. Where the folder describes
    /// one already, because an earlier attempt to make a deployment failed after that, it must be that one.
    ///
    /// # Errors
    /// The token or its key cannot be used, the folder has another root, or the disk failed. A key that was made by then stays in the
    /// token.
    #[cfg(feature = "hsm")]
    pub fn make_token(
        folder: &Path,
        address: &Address,
        pin_file: Option<&Path>,
        exists: bool,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, Failure> {
        must_lack(folder, KEY_FILE)?;
        let path = folder.join(TOKEN_FILE);
        let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", path.display()));
        let earlier: Option<TokenFile> = if path.exists() {
            Some(toml::from_str(&text_of(&path)?.0).map_err(|e| wrong(&e.message()))?)
        } else {
            None
        };
        let pin_file = pin_file.map(absolute).transpose()?;
        let pin = pin(pin_file.as_deref())?;
        let key = if exists || earlier.is_some() {
            TokenKey::open(address, pin.as_ref())?
        } else {
            TokenKey::make(address, pin.as_ref(), entropy)?
        };
        if let Some(earlier) = &earlier {
            key.must_be(earlier.public_key).map_err(|e| wrong(&e))?;
        }
        let at = key.address();
        let file = TokenFile {
            module: absolute(&at.module)?,
            token: at.token.clone(),
            serial: at.serial.clone().unwrap_or_default(),
            key: at.key.clone(),
            public_key: key.public_key(),
            pin_file,
        };
        let text = toml::to_string(&file).map_err(|e| Failure::new(Exit::Failure, e))?;
        // The same key; where its token or its PIN is may have changed.
        if earlier.as_ref() != Some(&file) {
            if earlier.is_some() {
                std::fs::remove_file(&path).map_err(|e| wrong(&e))?;
            }
            write_secret(&path, &format!("{TOKEN_FILE_HEAD}{text}"))?;
        }
        Ok(Self::Token(Box::new(key)))
    }

    /// The root of a deployment's folder.
    ///
    /// # Errors
    /// It is not there, cannot be used, or is one of two.
    pub fn of(folder: &Path) -> Result<Self, Failure> {
        let token = folder.join(TOKEN_FILE);
        if !token.exists() {
            return Self::read(&folder.join(KEY_FILE));
        }
        must_lack(folder, KEY_FILE)?;
        Self::read(&token)
    }

    /// The root that a file holds or describes: [`KEY_FILE`] or [`TOKEN_FILE`], by whatever name.
    ///
    /// # Errors
    /// It is neither, or what it describes cannot be used.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", path.display()));
        let (text, mode) = text_of(path)?;
        if text.trim_ascii_start().starts_with("-----BEGIN") {
            return IdentityKey::from_pem(&text).map(Self::File).map_err(|e| wrong(&e));
        }
        if text.starts_with(SEALED_FILE_HEAD) {
            let file: sealed::SealedFile = toml::from_str(&text).map_err(|e| wrong(&e.message()))?;
            return file.open().map(Self::File).map_err(|e| wrong(&e));
        }
        let file: TokenFile = toml::from_str(&text)
            .map_err(|e| wrong(&format!("neither a key nor the description of one in a token: {}", e.message())))?;
        if mode & 0o022 != 0 {
            return Err(wrong(
                &"others than its owner may write it, and it names a library that is loaded: chmod go-w",
            ));
        }
        if !file.module.is_absolute() {
            return Err(wrong(&format!("module {:?} is not an absolute path", file.module)));
        }
        Self::in_token(&file).map_err(|e| Failure::new(e.exit, format!("{}: {e}", path.display())))
    }

    #[cfg(feature = "hsm")]
    fn in_token(file: &TokenFile) -> Result<Self, Failure> {
        let (token, serial) = (file.token.clone(), Some(file.serial.clone()));
        let address = Address::new(file.module.clone(), token, serial, file.key.clone())?;
        let key = TokenKey::open(&address, pin(file.pin_file.as_deref())?.as_ref())?;
        key.must_be(file.public_key)?;
        Ok(Self::Token(Box::new(key)))
    }

    #[cfg(not(feature = "hsm"))]
    fn in_token(_: &TokenFile) -> Result<Self, Failure> {
        Err(Failure::new(Exit::Usage, WITHOUT_HSM))
    }

    /// Its public half: an operator of the anchors.
    pub fn public_key(&self) -> PublicKey {
        match self {
            Self::File(key) => legation_core::Signer::public_key(key),
            #[cfg(feature = "hsm")]
            Self::Token(key) => key.public_key(),
        }
    }

    /// Appoints. The appointment names this root as its operator.
    ///
    /// # Errors
    /// The token is gone or refuses.
    pub fn appoint(&self, appointment: Appointment) -> Result<Signed<Appointment>, Failure> {
        self.sign(appointment)
    }

    /// Says what custodians of a swarm key must be. The charter names this root as its operator.
    ///
    /// # Errors
    /// The token is gone or refuses.
    pub fn charter(&self, charter: Charter) -> Result<Signed<Charter>, Failure> {
        self.sign(charter)
    }

    fn sign<P: Predicate>(&self, statement: P) -> Result<Signed<P>, Failure> {
        match self {
            Self::File(key) => Ok(dsse::sign(statement, key)),
            #[cfg(feature = "hsm")]
            Self::Token(key) => {
                let unsigned = dsse::unsigned(statement);
                let signature = key.sign(unsigned.message())?;
                unsigned.signed(signature).map_err(|e| Failure::new(Exit::Failure, e))
            }
        }
    }
}

/// What a program without the feature says.
pub const WITHOUT_HSM: &str = "this program was built without feature `hsm`: cargo build --features hsm";

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
}

/// Refuses a folder in which there is such a root.
fn must_lack(folder: &Path, name: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(());
    }
    let text = format!("{} is there already, and a folder has one root: remove what nothing rests on", path.display());
    Err(Failure::new(Exit::Usage, text))
}

/// What a root's file holds, and its mode.
fn text_of(path: &Path) -> Result<(Zeroizing<String>, u32), Failure> {
    let wrong = |e: std::io::Error| Failure::new(Exit::Usage, format!("{}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(wrong)?;
    let mode = file.metadata().map_err(wrong)?.mode();
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX as usize));
    file.take(FILE_MAX).read_to_string(&mut text).map_err(wrong)?;
    Ok((text, mode))
}

/// The PIN: of the file, or else of the environment.
#[cfg(feature = "hsm")]
fn pin(file: Option<&Path>) -> Result<Option<Pin>, HsmError> {
    match file {
        Some(path) => Pin::from_file(path).map(Some),
        None => Pin::from_environment(),
    }
}

#[cfg(feature = "hsm")]
impl From<HsmError> for Failure {
    fn from(error: HsmError) -> Self {
        let exit = match error {
            // A token that was there, or says what nobody expects of it, is a failure of this machine.
            HsmError::Gone { .. }
            | HsmError::Refused { .. }
            | HsmError::BadSignature { .. }
            | HsmError::Start { .. }
            | HsmError::Locked { .. } => Exit::Failure,
            _ => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use legation_net::OsEntropy;

    use super::*;

    #[test]
    fn a_file_is_a_key_or_says_where_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            Root::read(&path).map(|root| root.public_key()).map_err(|e| e.message)
        };
        let key = IdentityKey::from_seed([7; 32]);
        assert_eq!(read(&key.to_pem()), Ok(legation_core::Signer::public_key(&key)));
        for (text, why) in [
            ("", "neither a key nor"),
            ("-----BEGIN PRIVATE KEY-----\n", "PEM"),
            ("module = \"m\"\n", "neither a key nor"),
            (&*format!("{SEALED_FILE_HEAD}salt = \"00\"\n"), "missing field"),
            (&*" ".repeat(20_000), "neither a key nor"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let public = legation_core::Signer::public_key(&key);
        let described = format!(
            "module = \"{}\"\ntoken = \"t\"\nserial = \"1\"\nkey = \"k\"\npublic_key = \"{public}\"\n",
            dir.path().join("none.so").display()
        );
        let why = if cfg!(feature = "hsm") { "none.so cannot be loaded" } else { "without feature `hsm`" };
        let said = read(&described).unwrap_err();
        assert!(said.contains(why), "{said}");
        // Nothing beside: a PIN in the description would be one in a file that is passed on.
        let said = read(&format!("{described}pin = \"1234\"\n")).unwrap_err();
        assert!(said.contains("neither a key nor") && !said.contains("1234"), "{said}");
    }

    #[test]
    fn a_description_that_others_may_write_or_that_names_no_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let public = legation_core::Signer::public_key(&IdentityKey::from_seed([7; 32]));
        for (module, mode, why) in
            [("/none.so", 0o664, "chmod go-w"), ("/none.so", 0o602, "chmod go-w"), ("none.so", 0o600, "absolute")]
        {
            let text = format!(
                "module = \"{module}\"\ntoken = \"t\"\nserial = \"1\"\nkey = \"k\"\npublic_key = \"{public}\"\n"
            );
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = Root::read(&path).map(drop).map_err(|e| e.message).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_root_in_a_file_is_sealed_where_a_passphrase_is_named_and_a_folder_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = dir.path().join("passphrase");
        std::fs::write(&passphrase, "a long one, drawn by chance\n").unwrap();
        std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
        let made = Root::make_file(dir.path(), Some(&passphrase), &mut OsEntropy).unwrap().public_key();
        let file = dir.path().join(KEY_FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&file).unwrap().contains("BEGIN"));
        assert_eq!(Root::of(dir.path()).unwrap().public_key(), made);
        let refused = |made: Result<Root, Failure>| made.map(drop).map_err(|e| e.message).unwrap_err();
        let said = refused(Root::make_file(dir.path(), None, &mut OsEntropy));
        assert!(said.contains("operator.key is there already"), "{said}");
        std::fs::write(&passphrase, "another long one\n").unwrap();
        let said = refused(Root::of(dir.path()));
        assert!(said.contains("operator.key") && said.contains("does not open it"), "{said}");
        // Of two roots, none is guessed at.
        std::fs::write(dir.path().join(TOKEN_FILE), "").unwrap();
        let said = refused(Root::of(dir.path()));
        assert!(said.contains("a folder has one root"), "{said}");
        std::fs::remove_file(&file).unwrap();
        let said = refused(Root::make_file(dir.path(), None, &mut OsEntropy));
        assert!(said.contains("operator.hsm.toml is there already"), "{said}");
    }
}
