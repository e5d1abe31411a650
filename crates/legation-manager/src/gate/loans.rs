//! Enclaves that agents ask for, to hand calls to, and give back.

use std::time::Instant;

use legation_core::{EnclaveId, LeaseId, Rejection, delegation::LoanTerms};
use legation_net::{Sender, message::ToAgent};
use legation_pool::Command;
use tracing::debug;

use super::{Gate, transient};

/// Asks the pool for an enclave. What is lent comes with what the leader decides; a refusal is told.
///
/// # Errors
/// What ends the channel: it is not known whether an enclave was lent.
pub(super) async fn borrow(
    gate: &Gate,
    sender: &Sender,
    enclave: EnclaveId,
    (ask, of, terms): (u64, LeaseId, Box<LoanTerms>),
) -> Result<(), Rejection> {
    let refused = match gate.borrowing.heard(enclave, of, &terms, Instant::now()) {
        Err(why) => why,
        Ok(()) => match gate.leader.apply(Command::Borrow { enclave, ask, of, terms: terms.clone() }).await {
            Ok(_) => return Ok(()),
            // Who is told so asks again in a while; a channel that ended would cost what it was lent.
            Err(why) if transient(&why) && why.check != "manager.busy" => return Err(why),
            Err(why) => {
                gate.borrowing.refused(enclave, (of, *terms), &why, Instant::now());
                why
            }
        },
    };
    debug!(%enclave, %of, why = %refused, "no enclave is lent");
    let _ = sender.send_control(&ToAgent::LoanRefused { ask, why: refused }).await;
    Ok(())
}

/// Takes an enclave back.
///
/// # Errors
/// What ends the channel: the borrower gives it back again on another.
pub(super) async fn give_back(
    gate: &Gate,
    enclave: EnclaveId,
    loan: LeaseId,
    why: Option<Rejection>,
) -> Result<(), Rejection> {
    match gate.leader.apply(Command::GiveBack { enclave, loan, why }).await {
        Err(why) if transient(&why) => Err(why),
        // It may have ended meanwhile.
        _ => Ok(()),
    }
}
