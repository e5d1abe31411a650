//! From a module's path to a session that is logged in: checks 1 to 3 of [`super`].

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11},
    error::{Error, RvError},
    mechanism::MechanismType,
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
};
use legation_core::printable;

use super::{Address, HsmError, Pin};

/// A token with a session of its user. Dropped, the session ends, and with the last one the login.
pub(super) struct Token {
    pub(super) session: Session,
    pub(super) label: String,
    pub(super) serial: String,
    pkcs11: Pkcs11,
    slot: Slot,
}

/// Whether objects of the token may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Token {
    /// Finds the token and logs in.
    pub(super) fn open(address: &Address, pin: Option<&Pin>, access: Access) -> Result<Self, HsmError> {
        let pkcs11 = start(address)?;
        let (slot, info) = find(&pkcs11, address)?;
        may_try(&info)?;
        let (label, serial) = (shown(info.label()), shown(info.serial_number()));
        let gone = |e: Error| other(&label, &e);
        let session = match access {
            Access::Read => pkcs11.open_ro_session(slot).map_err(gone)?,
            Access::Write => pkcs11.open_rw_session(slot).map_err(gone)?,
        };
        let pin = match pin {
            Some(pin) => Some(&pin.0),
            // The PIN is typed at the token itself.
            None if info.protected_authentication_path() => None,
            None => return Err(HsmError::NoPin),
        };
        match session.login(UserType::User, pin) {
            // A login is the whole process's: another session of ours made it.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => {
                let last = pkcs11.get_token_info(slot).is_ok_and(|info| info.user_pin_final_try());
                return Err(login_refused(&label, &error, last));
            }
        }
        Ok(Self { session, label, serial, pkcs11, slot })
    }

    /// Refuses a token that lacks one of these mechanisms.
    pub(super) fn must_know(&self, wanted: &[(MechanismType, &'static str)]) -> Result<(), HsmError> {
        let known = self.pkcs11.get_mechanism_list(self.slot).map_err(|e| other(&self.label, &e))?;
        match wanted.iter().find(|(mechanism, _)| !known.contains(mechanism)) {
            Some((_, mechanism)) => Err(HsmError::NoMechanism { token: self.label.clone(), mechanism }),
            None => Ok(()),
        }
    }

    /// What an error in the midst means: modules say much when their token is gone, so whether it still is there is asked.
    pub(super) fn failed(&self, error: &Error, still_there: impl FnOnce() -> bool) -> HsmError {
        let said = other(&self.label, error);
        let there = self.pkcs11.get_token_info(self.slot).is_ok() && still_there();
        match said {
            HsmError::Refused { token, code } if !there => HsmError::Gone { token, code },
            said => said,
        }
    }
}

/// Check 1. A process starts a module once; whoever comes later finds it started.
fn start(address: &Address) -> Result<Pkcs11, HsmError> {
    let path = &address.module;
    let why = |e: Error| match e {
        Error::LibraryLoading(why) => why.to_string(),
        Error::MissingSymbol(name) => format!("it has no {name}"),
        other => code(&other),
    };
    // A name without a folder would be looked for wherever the loader looks.
    let path = path.canonicalize().map_err(|e| HsmError::Module { path: path.clone(), why: e.to_string() })?;
    let pkcs11 = Pkcs11::new(&path).map_err(|e| HsmError::Module { path: path.clone(), why: shown(&why(e)) })?;
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, Function::Initialize)) => Ok(pkcs11),
        Err(error) => Err(HsmError::Start { path, code: code(&error) }),
    }
}

/// Check 2.
fn find(pkcs11: &Pkcs11, address: &Address) -> Result<(Slot, TokenInfo), HsmError> {
    let slots = pkcs11.get_slots_with_initialized_token().map_err(|e| other(&address.token, &e))?;
    // A token that goes while we look is not there.
    let tokens: Vec<_> = slots.into_iter().filter_map(|slot| Some((slot, pkcs11.get_token_info(slot).ok()?))).collect();
    let wanted = |info: &TokenInfo| {
        info.label() == address.token && address.serial.as_ref().is_none_or(|serial| info.serial_number() == serial)
    };
    let mut found: Vec<_> = tokens.iter().filter(|(_, info)| wanted(info)).collect();
    match (found.pop(), found.is_empty()) {
        (Some((slot, info)), true) => Ok((*slot, info.clone())),
        (Some((_, last)), false) => {
            let serials = found.iter().map(|(_, info)| info).chain([last]);
            let serials = serials.map(|info| shown(info.serial_number())).collect();
            Err(HsmError::Ambiguous { label: address.token.clone(), serials })
        }
        (None, _) => {
            let there: Vec<_> = tokens
                .iter()
                .map(|(_, info)| format!("{:?} ({})", shown(info.label()), shown(info.serial_number())))
                .collect();
            let serial = address.serial.as_ref().map(|serial| format!(" with the serial number {serial}"));
            Err(HsmError::NoToken {
                wanted: format!("{:?}{}", address.token, serial.unwrap_or_default()),
                seen: if there.is_empty() {
                    "there is none".to_owned()
                } else {
                    format!("there is {}", there.join(", "))
                },
            })
        }
    }
}

/// Check 3, before the PIN is tried.
fn may_try(info: &TokenInfo) -> Result<(), HsmError> {
    let token = shown(info.label());
    if info.user_pin_locked() {
        Err(HsmError::Locked { token })
    } else if !info.user_pin_initialized() {
        Err(HsmError::NoPinSet { token })
    } else if info.user_pin_final_try() {
        Err(HsmError::LastTry { token })
    } else {
        Ok(())
    }
}

/// Check 3, afterwards.
fn login_refused(token: &str, error: &Error, last: bool) -> HsmError {
    let token = token.to_owned();
    match error {
        Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _) => {
            HsmError::WrongPin { token, last }
        }
        Error::Pkcs11(RvError::PinLocked, _) => HsmError::Locked { token },
        Error::Pkcs11(RvError::UserPinNotInitialized, _) => HsmError::NoPinSet { token },
        error => other(&token, error),
    }
}

/// What the module says, where nothing more is known of it.
pub(super) fn other(token: &str, error: &Error) -> HsmError {
    let (token, said) = (token.to_owned(), code(error));
    match error {
        Error::Pkcs11(
            RvError::DeviceRemoved
            | RvError::DeviceError
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::SlotIdInvalid
            | RvError::SessionClosed
            | RvError::SessionHandleInvalid
            | RvError::UserNotLoggedIn,
            _,
        ) => HsmError::Gone { token, code: said },
        _ => HsmError::Refused { token, code: said },
    }
}

/// The name of a code and of the call: the library's own texts are paragraphs of the standard.
fn code(error: &Error) -> String {
    match error {
        Error::Pkcs11(value, function) => format!("{value:?} at {function:?}"),
        other => shown(&other.to_string()),
    }
}

/// What a device says, in which no byte steers a terminal.
fn shown(text: &str) -> String {
    printable::one_line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: RvError, function: Function) -> Error {
        Error::Pkcs11(value, function)
    }

    #[test]
    fn codes_of_a_login_become_sentences() {
        for (value, last, expect) in [
            (RvError::PinIncorrect, false, "token \"t\" refuses the PIN"),
            (RvError::PinIncorrect, true, "token \"t\" refuses the PIN; ONE MORE WRONG PIN LOCKS IT"),
            (RvError::PinLenRange, false, "token \"t\" refuses the PIN"),
            (RvError::PinLocked, false, "token \"t\" is locked: its security officer can set a new PIN"),
            (RvError::UserPinNotInitialized, false, "token \"t\" has no PIN yet: its security officer sets one"),
            (
                RvError::DeviceRemoved,
                false,
                "token \"t\" does not answer any more (DeviceRemoved at Login): was it removed?",
            ),
            (RvError::FunctionFailed, false, "token \"t\" refuses: FunctionFailed at Login"),
        ] {
            assert_eq!(login_refused("t", &said(value, Function::Login), last).to_string(), expect);
        }
    }

    #[test]
    fn a_token_that_was_removed_is_told_from_one_that_refuses() {
        for value in
            [RvError::TokenNotPresent, RvError::SessionHandleInvalid, RvError::SlotIdInvalid, RvError::DeviceError]
        {
            assert!(matches!(other("t", &said(value, Function::Sign)), HsmError::Gone { .. }), "{value:?}");
        }
        for value in [RvError::KeyFunctionNotPermitted, RvError::MechanismInvalid, RvError::GeneralError] {
            assert!(matches!(other("t", &said(value, Function::Sign)), HsmError::Refused { .. }), "{value:?}");
        }
    }
}
