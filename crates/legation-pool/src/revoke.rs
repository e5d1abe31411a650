//! Revocation: one command, one record, one epoch; leases end, the channel closes, the work moves.

use legation_core::{EnclaveId, Rejection, RevocationEpoch};

use crate::{
    apply::Change,
    enclave::{Presence, revoked},
    event::{Effect, Event, LeaseEnd},
    pool::{Env, Pool},
    text::cut,
};

impl Pool {
    pub(crate) fn revoke(
        &mut self,
        enclave: EnclaveId,
        why: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.known(enclave)?.revoked.is_some() {
            return Ok(());
        }
        let why = &cut(why);
        let epoch = RevocationEpoch(self.revocations.0 + 1);
        out.record(self, env, Event::Revoked { enclave, epoch, why: why.clone() })?;
        out.effects.push(Effect::Close { enclave, why: revoked(enclave, why) });
        self.end_leases_of(enclave, &LeaseEnd::Revoked, env, out)?;
        if !matches!(self.known(enclave)?.presence, Presence::Away { .. }) {
            out.record(self, env, Event::Left { enclave, why: "revoked".into() })?;
        }
        Ok(())
    }
}
